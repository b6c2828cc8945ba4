"""What gates skip and what they miss, on labelled clips.

``python -m benchmarks.gating`` runs the gates that need nothing else over the clips that judge;
``--role tune`` over those that thresholds may be chosen with; ``--gate pixel:blocks=4`` a gate with
settings of its own, ``--gate feature:bundle=bundles/nano`` one that looks through an encoder,
``--gate motion`` one that waits until the view is still. ``--out FOLDER`` writes a sheet of the
missed changes of every gate and a plot. The gate on a text is not among them: labels say where
something changed, and not what it is.

Every frame that is let through counts as answered at once. The cost is processor time of the
process, decoding apart, so that a busy machine does not show in it.
"""

from __future__ import annotations

import argparse
import ast
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.clips.catalogue import clip, names
from benchmarks.clips.clip import Clip
from benchmarks.clips.filmed import frames
from benchmarks.gate_metrics import Verdict, judge
from benchmarks.gate_sheet import draw_misses, plot
from edgevlm.frame import UInt8
from edgevlm.gates import (
    FeatureSection,
    GateSection,
    MotionSection,
    PixelSection,
    SceneSection,
)
from edgevlm.runtime.stream.gates import open_chain
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.view import View

GATES: Mapping[str, Callable[..., GateSection]] = {
    "pixel": PixelSection,
    "scene": SceneSection,
    "motion": MotionSection,
    "feature": FeatureSection,
}
COMPARED = ("pixel", "scene")  # without being asked for
WITHIN_S = 1.0  # shorter than the shortest pause, so that no later change comes to the rescue
TOGETHER = "all"
_COLUMNS = (
    ("clip", "clip"), ("frames", "frames"), ("passed", "through"), ("skip_percent", "skip %"),
    ("false_wake_percent", "false %"), ("changes", "changes"), ("missed", "missed"),
    ("miss_percent", "miss %"), ("miss_at_most_percent", "95% <="),
    ("delay_frames_p50", "delay p50"), ("delay_frames_p95", "p95 frames"),
    ("delay_ms_p50", "p50 ms"), ("delay_ms_p95", "p95 ms"), ("cost_ms_p50", "cost ms"),
    ("cost_ms_p95", "p95 ms"),
)  # fmt: skip


def made(spec: str) -> Chain:
    """A new gate, alone, from ``name`` or ``name:setting=value,setting=value``; close it.

    A value is Python's where it is a literal, else a text.

    Raises:
        ValueError: no gate has that name, or a setting does not fit.
        BundleError, BackendError, ContractError: as ``open_chain``.
    """
    name, _, settings = spec.partition(":")
    if name not in GATES:
        raise ValueError(f"no gate is called {name!r}; there are {list(GATES)}")
    given = (pair.split("=", 1) for pair in settings.split(",") if pair)
    section = GATES[name](**{key: _value(text) for key, text in given})
    return open_chain([section], Encoders())


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def no_model(_image: UInt8) -> NoReturn:
    """Stands where a stream has its model."""
    raise AssertionError("these gates bring what they look through")


def passed_by(gates: Mapping[str, Chain], of: Clip) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Run gates side by side over a clip.

    Returns:
        for every gate the frames that it let through, and milliseconds of every frame.
    """
    passed: dict[str, list[int]] = {name: [] for name in gates}
    cost: dict[str, list[float]] = {name: [] for name in gates}
    for frame in frames(of):
        for name, gate in gates.items():
            begun = time.process_time()
            view = View(frame, frame.index / of.fps, no_model)
            changed = gate.decide(view).do == "answer"
            if changed:
                gate.accept()
            cost[name].append(1e3 * (time.process_time() - begun))
            if changed:
                passed[name].append(frame.index)
    return passed, cost


def measure(
    specs: Sequence[str], clips: Sequence[str], within_s: float
) -> dict[str, dict[str, Verdict]]:
    """Every gate on every clip: ``verdicts[gate][clip]``, and ``TOGETHER`` for all clips."""
    verdicts: dict[str, dict[str, Verdict]] = {spec: {} for spec in specs}
    for name in clips:
        of = clip(name)
        with ExitStack() as stack:
            gates = {spec: stack.enter_context(closing(made(spec))) for spec in specs}
            passed, cost = passed_by(gates, of)
        for spec in specs:
            verdict = judge(of.changes, passed[spec], of.count, of.fps, within_s, of.complete)
            verdict.cost_ms = cost[spec]
            verdicts[spec][name] = verdict
    for by_clip in verdicts.values():
        together = Verdict()
        for verdict in by_clip.values():
            together.add(verdict)
        by_clip[TOGETHER] = together
    return verdicts


def table(rows: Mapping[str, Verdict]) -> str:
    """One gate's verdicts as aligned text."""
    lines = [[head for _, head in _COLUMNS]]
    for name, verdict in rows.items():
        figures = {"clip": name, **verdict.row()}
        lines.append(["-" if figures[k] is None else f"{figures[k]}" for k, _ in _COLUMNS])
    widths = [max(len(line[n]) for line in lines) for n in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(w) if not n else cell.rjust(w) for n, (cell, w) in
                  enumerate(zip(line, widths, strict=True)))
        for line in lines
    )  # fmt: skip


def main() -> None:
    """Measure, print, and draw where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gate", action="append", metavar="SPEC", help=f"of {list(GATES)}")
    parser.add_argument("--clip", action="append", choices=names(), metavar="NAME")
    parser.add_argument("--role", choices=("tune", "judge"), default="judge")
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    verdicts = measure(chosen.gate or COMPARED, chosen.clip or names(chosen.role), chosen.within)
    for spec, rows in verdicts.items():
        print(f"gate {spec}; a change counts as missed after {chosen.within} s")
        print(table(rows), "\n", flush=True)
    if chosen.json:
        plain = {s: {n: v.row() for n, v in rows.items()} for s, rows in verdicts.items()}
        chosen.json.write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        plot({spec: rows[TOGETHER] for spec, rows in verdicts.items()}, chosen.out / "gates.png")
        for spec, rows in verdicts.items():
            misses = {name: v.missed for name, v in rows.items() if name != TOGETHER}
            file = "".join("-" if sign in ":/" else sign for sign in spec)
            draw_misses(misses, chosen.out / f"missed-{file}.png")


if __name__ == "__main__":
    main()
