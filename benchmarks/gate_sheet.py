"""Pictures of what gates missed: before, after, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.clips.catalogue import clip
from benchmarks.clips.filmed import frames
from benchmarks.gate_metrics import Verdict
from edgevlm.export.nano_data.story import Change
from edgevlm.frame import UInt8

CELL, TEXT, COLUMNS, MOST = 120, 26, 6, 60


def draw_misses(misses: Mapping[str, Sequence[Change]], target: Path) -> None:
    """A sheet of missed changes, each as the camera saw it before and after, its box in red.

    Args:
        misses: of every clip.
        target: PNG file; not written where nothing was missed.
    """
    cells: list[Image.Image] = []
    for name, changes in misses.items():
        shown = list(changes)[: max(0, MOST - len(cells))]
        wanted = {n for c in shown for n in (max(0, c.begun - 1), c.frame)}
        pictures = {f.index: f.pixels.rgb() for f in frames(clip(name)) if f.index in wanted}
        cells += [
            cell(f"{name} {c.frame}", c, pictures[max(0, c.begun - 1)], pictures[c.frame])
            for c in shown
            if c.frame in pictures
        ]
    if cells:
        sheet(cells).save(target)


def cell(title: str, change: Change, before: UInt8, after: UInt8) -> Image.Image:
    """Two crops side by side around the box of a change."""
    x0, y0, x1, y1 = change.box_xyxy
    height, width = before.shape[:2]
    side = min(max(x1 - x0, y1 - y0, 60) * 5 // 4, height, width)
    left = int(np.clip((x0 + x1 - side) // 2, 0, width - side))
    top = int(np.clip((y0 + y1 - side) // 2, 0, height - side))
    both = Image.new("RGB", (2 * CELL + 6, CELL + TEXT), "white")
    pen = ImageDraw.Draw(both)
    scale = CELL / side
    for n, picture in enumerate((before, after)):
        crop = Image.fromarray(picture[top : top + side, left : left + side])
        both.paste(crop.resize((CELL, CELL)), (n * (CELL + 2), 0))
        x, y = n * (CELL + 2) - left * scale, -top * scale
        box = (x + x0 * scale, y + y0 * scale, x + x1 * scale - 1, y + y1 * scale - 1)
        pen.rectangle(box, outline="red")
    pen.text((2, CELL), title, fill="black")
    pen.text((2, CELL + 12), f"{change.kind} {change.area_px} px", fill="black")
    return both


def sheet(cells: Sequence[Image.Image]) -> Image.Image:
    """Cells in rows."""
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    whole = Image.new("RGB", (min(COLUMNS, len(cells)) * width, rows * height), "white")
    for n, one in enumerate(cells):
        whole.paste(one, (n % COLUMNS * width, n // COLUMNS * height))
    return whole


def plot(together: Mapping[str, Verdict], target: Path) -> None:
    """Skip rate against miss rate, a point a gate, with the bound as a bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="frames skipped, %", ylabel="changes missed, %")
    for name, verdict in together.items():
        row = verdict.row()
        skip, miss, bound = (
            row[key] or 0.0 for key in ("skip_percent", "miss_percent", "miss_at_most_percent")
        )
        axes.errorbar(
            [skip], [miss], yerr=[[0.0], [bound - miss]],
            fmt="o", capsize=4, label=name,
        )  # fmt: skip
    axes.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.set_title("bars: 95 % upper bound", fontsize="small")
    figure.savefig(target, dpi=120)
