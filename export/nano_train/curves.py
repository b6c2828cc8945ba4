"""Losses over steps, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

_SMOOTHED = 20  # steps


def draw(run: Path) -> Path:
    """Write ``curves.png`` from the logs of a run.

    Args:
        run: its folder.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for n, name in enumerate(("first", "second"), start=1):
        axes = figure.add_subplot(1, 2, n)
        path = run / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for key in sorted({key for row in rows for key in row} - {"step", "seconds"}):
            with_it = [row for row in rows if key in row]  # not every batch asks for everything
            steps = np.array([row["step"] for row in with_it])
            values = np.array([row[key] for row in with_it])
            window = min(_SMOOTHED, len(values))
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], smooth, label=key)
        axes.set_title(f"{name} lesson")
        axes.set_xlabel("step")
        axes.set_yscale("log")
        axes.legend(fontsize=7)
    target = run / "curves.png"
    figure.savefig(target, dpi=110)
    return target
