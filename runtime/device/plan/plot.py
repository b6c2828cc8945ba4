"""Settings as a picture: time against error, the Pareto set joined. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevlm.errors import BackendUnavailable, ConfigError
from edgevlm.runtime.device.plan.search import Choice, Target

MARKS = {"fp32": "s", "fp16": "D", "int8": "o", "int4": "^"}


def save_plot(
    path: Path, title: str, choices: Sequence[Choice], best: Sequence[Choice], target: Target
) -> None:
    """Draw every choice, memory as colour, precision as mark.

    Raises:
        BackendUnavailable: matplotlib is not installed.
        ConfigError: a file type that matplotlib does not write.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise BackendUnavailable(
            "a plot needs matplotlib: pip install 'edgevlm[plot]', or leave --output out"
        ) from exc
    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    memory = [c.prediction.memory.run_mb for c in choices]
    low, high = min(memory), max(memory)
    drawn = None
    for precision, mark in MARKS.items():
        members = [c for c in choices if c.prediction.precision == precision]
        if members:
            drawn = axes.scatter(
                [c.prediction.answer_ms for c in members],
                [c.error for c in members],
                c=[c.prediction.memory.run_mb for c in members],
                marker=mark, vmin=low, vmax=high, label=precision, edgecolors="0.3", linewidths=0.5,
            )  # fmt: skip
    axes.plot(
        [c.prediction.answer_ms for c in best], [c.error for c in best], "0.4", linewidth=1,
        zorder=0, label="Pareto set",
    )  # fmt: skip
    if target.fps is not None:
        axes.axvline(1e3 / target.fps, color="tab:red", linestyle=":", label=f"{target.fps:g} fps")
    axes.set(title=title, xlabel="ms an answer", ylabel="error by the scaling law", xscale="log")
    axes.legend(fontsize="small")
    if drawn is not None:
        figure.colorbar(drawn, label="MB while running")
    kinds = canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in kinds:
        raise ConfigError(f"--output {path}: a plot is written as {', '.join(sorted(kinds))}")
    figure.savefig(path)
