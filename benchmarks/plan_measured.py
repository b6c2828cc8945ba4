"""The planner against this machine: ``nano`` in several precisions, predicted and measured.

``python -m benchmarks.plan_measured`` exports nano, measures the machine as ``edgevlm plan --device
this`` does, predicts, and runs ``edgevlm bench``. Nothing is fitted in between. A machine that is
busy with other things makes all figures worse, and not alike: run it alone. ``--asks N`` asks N
frames in this process instead, which takes a minute and not ten.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgevlm.bundle import open_bundle
from edgevlm.bundle.manifest import Precision
from edgevlm.cost import CostSheet
from edgevlm.export.cost.bundle import bundle_sheet
from edgevlm.export.cost.speed_probe import write_probes
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.device.bench import QUESTION
from edgevlm.runtime.device.plan.calibrate import measure
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.runtime.device.plan.predict import Ask, Prediction, predict
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm

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


def benched(bundle: Path, threads: int) -> dict[str, float]:
    """What ``edgevlm bench`` prints."""
    command = [sys.executable, "-m", "edgevlm", "bench", str(bundle), "--json"]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def asked(bundle: Path, threads: int, asks: int) -> dict[str, float]:
    """The same stages of a few answers to distinct frames of noise, under the same names."""
    pictures = np.random.default_rng(3).integers(0, 255, (asks + 1, 720, 1280, 3), np.uint8)
    with Vlm(open_bundle(bundle), open_backend("ort-cpu", threads)) as model:
        model.ask(pictures[0], QUESTION, max_tokens=4)
        found = [model.ask(picture, QUESTION, max_tokens=32) for picture in pictures[1:]]
    decoded = sum(a.tokens.output - 1 for a in found) / sum(a.timings_ms.decode for a in found)
    return {
        "encode_ms_p50": statistics.median(a.timings_ms.encode for a in found),
        "decode_tokens_per_s": 1e3 * decoded,
    }


def main() -> None:
    """Print predicted beside measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--asks", type=int, default=0)
    chosen = parser.parse_args()
    sys.stdout.write(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    sys.stdout.write("  ".join(HEAD) + "\n")
    for precision in chosen.precision:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "nano"
            export("nano", bundle, ExportOptions(precision=precision, calibrate=False))
            sheet, device = bundle_sheet(bundle), machine(chosen.threads)
            figures = (
                asked(bundle, chosen.threads, chosen.asks)
                if chosen.asks
                else benched(bundle, chosen.threads)
            )
        expected = predicted(sheet, precision, device)
        for name in (n for n in expected if n in figures):
            value = expected[name]
            cells = (precision, name, f"{figures[name]:g}", f"{value:.4g}",
                     f"{100 * (value / figures[name] - 1):+.0f} %")  # fmt: skip
            sys.stdout.write("  ".join(cells) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
