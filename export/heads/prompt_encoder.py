"""SAM's prompt encoder: points and boxes as tokens, and positions of the image's cells.

A box is its two corners, with labels of their own, so that one list of points says everything.

Source: Segment Anything (Kirillov et al., 2023), appendix A, "Prompt encoder"; Fourier features
(Tancik et al., 2020), section 4.
"""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.masks import IGNORED, PADDING
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.tensors import Float32

POINTS = 4  # background, foreground, upper left corner, lower right corner


def write_points(
    w: TowerWriter, frequencies: Float32, image_size: int, points: str, labels: str
) -> str:
    """Tokens of points.

    Args:
        w: writer over the prompt encoder's weights.
        frequencies: float32 ``(2, width / 2)``.
        image_size: height and width of the encoder's input.
        points: input, float32 ``(prompts, n, 2)``: x and y in pixels of the encoder's input.
        labels: input, int64 ``(prompts, n)``: 0 background, 1 foreground, 2 and 3 corners of a
            box, ``PADDING`` no point, ``IGNORED`` a token of zeros.

    Returns:
        name of the output, float32 ``(prompts, n, width)``.
    """
    g = w.graph
    half = g.constant("half", np.array(0.5, np.float32))
    scale = g.constant("points.scale", np.array(2.0 / image_size, np.float32))
    one = g.constant("one", np.array(1.0, np.float32))
    centred = w.node("Add", [points, half], "points/centre")
    scaled = w.node("Sub", [w.node("Mul", [centred, scale], "points"), one], "points")
    turns = w.tensor("frequencies", (2 * np.pi * frequencies.astype(np.float64)).astype(np.float32))
    angles = w.node("MatMul", [scaled, turns], "points/angles")
    waves = [w.node("Sin", [angles], "points"), w.node("Cos", [angles], "points")]
    encoded = w.node("Concat", waves, "points", axis=-1)
    keep, add = _tables(w.source)
    ignored = g.constant("label.ignored", np.array(IGNORED, np.int64))
    row = w.node("Sub", [labels, g.constant("label.first", np.array(PADDING, np.int64))], "labels")
    last = g.constant("label.last", np.array(len(keep) - 1, np.int64))
    row = w.node("Where", [w.node("Equal", [labels, ignored], "labels"), last, row], "labels")
    kept = w.node("Gather", [w.tensor("labels.keep", keep), row], "labels/keep")
    added = w.node("Gather", [w.tensor("labels.add", add), row], "labels/add")
    return w.node("Add", [w.node("Mul", [encoded, kept], "labels"), added], "labels")


def _tables(source: WeightSource) -> tuple[Float32, Float32]:
    """By label, from ``PADDING`` on: is the position kept, and what is added; zeros at the end."""
    names = ["not_a_point_embed.weight", *(f"point_embed.{n}.weight" for n in range(POINTS))]
    rows = [source.get(name) for name in names]
    add = np.concatenate([*rows, np.zeros_like(rows[0])])
    keep = np.array([0, *[1] * POINTS, 0], np.float32)[:, None]
    return keep, add


def cell_positions(frequencies: Float32, side: int) -> Float32:
    """Positions of the cells of an image embedding, row by row: float32 ``(side^2, width)``."""
    centres = 2 * (np.arange(side) + 0.5) / side - 1
    x, y = np.tile(centres, side), np.repeat(centres, side)
    angles = 2 * np.pi * (np.stack([x, y], -1) @ frequencies.astype(np.float64))
    return np.concatenate([np.sin(angles), np.cos(angles)], -1).astype(np.float32)
