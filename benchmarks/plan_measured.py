"""The planner against this machine: ``nano`` in several precisions, predicted and measured.

``python -m benchmarks.plan_measured`` exports nano, measures the machine as ``edgevlm plan --device
this`` does, predicts, and runs ``edgevlm bench``. Nothing is fitted in between. A machine that is
busy with other things makes all figures worse, and not alike: run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgevlm.bundle.manifest import Precision
from edgevlm.cost import CostSheet
from edgevlm.export.cost.bundle import bundle_sheet
from edgevlm.export.cost.speed_probe import write_probes
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.device.plan.calibrate import measure
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.runtime.device.plan.predict import Ask, Prediction, predict
from edgevlm.runtime.model.load import open_backend

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int4")
PROMPT, LONG = 56, 256  # tokens that edgevlm bench prefills: with a picture, and of text
HEAD = ("precision", "figure", "measured", "predicted", "error")


def machine(threads: int) -> Device:
    """This machine, measured now."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(write_probes(Path(folder)), open_backend("ort-cpu", threads))


def predicted(sheet: CostSheet, precision: Precision, device: Device) -> dict[str, float]:
    """The planner's figures under the names that ``edgevlm bench`` prints."""

    def of(prompt: int) -> Prediction:
        setting = sheet.settings[0]
        free = predict(sheet, setting, precision, device, Ask(question_tokens=1)).prompt_tokens - 1
        ask = Ask(question_tokens=prompt - free, output_tokens=32)
        return predict(sheet, setting, precision, device, ask)

    short, long = of(PROMPT), of(LONG)
    return {
        "encode_ms_p50": short.encode_ms,
        "prefill_ms_per_100_tokens": 100 * long.prefill_ms / LONG,
        "decode_tokens_per_s": short.decode_tokens_per_s,
        "answers_per_s_distinct": short.answers_per_s,
        "peak_rss_mb": short.memory.run_mb,
    }


def main() -> None:
    """Print predicted beside measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    chosen = parser.parse_args()
    sys.stdout.write(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    sys.stdout.write("  ".join(HEAD) + "\n")
    for precision in chosen.precision:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "nano"
            export("nano", bundle, ExportOptions(precision=precision, calibrate=False))
            sheet, device = bundle_sheet(bundle), machine(chosen.threads)
            command = [sys.executable, "-m", "edgevlm", "bench", str(bundle), "--json"]
            command += ["--threads", str(chosen.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
        for name, value in predicted(sheet, precision, device).items():
            cells = (precision, name, f"{figures[name]:g}", f"{value:.4g}",
                     f"{100 * (value / figures[name] - 1):+.0f} %")  # fmt: skip
            sys.stdout.write("  ".join(cells) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
