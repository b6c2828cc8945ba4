"""Position tables for another grid than they were learned on."""

from __future__ import annotations

import math

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.tensors import Float32


def resized_table(table: Float32, side: int, *, antialias: bool = False) -> Float32:
    """A square table of positions for a grid of another size, as torch's bicubic does it.

    Args:
        table: float32 ``(old_side ** 2, width)``, row by row.
        side: cells along one side of the new grid.
        antialias: average over all cells that fall together where the grid shrinks.

    Returns:
        float32 ``(side ** 2, width)``; the table itself where the size stays.

    Raises:
        CheckpointError: the table is no square.
    """
    old = math.isqrt(len(table))
    if old * old != len(table):
        raise CheckpointError(f"the position table has {len(table)} rows, which are no square grid")
    if old == side:
        return table
    matrix = cubic_matrix(old, side, antialias=antialias).astype(np.float64)
    grid = table.reshape(old, old, -1).astype(np.float64)
    resized = np.einsum("yh,hwd,xw->yxd", matrix, grid, matrix, optimize=True)
    rows: Float32 = resized.reshape(side * side, -1).astype(np.float32)
    return rows


def cubic_matrix(source: int, target: int, *, antialias: bool) -> Float32:
    """Cubic interpolation along one axis: half-pixel centres, edges repeated.

    Source: Keys (1981), "Cubic convolution interpolation for digital image processing"; its free
    number is -0.75, with antialiasing -0.5, as in torch.

    Returns:
        float32 ``(target, source)``; rows sum to 1.
    """
    matrix = np.zeros((target, source))
    scale = source / target
    wide = max(scale, 1.0) if antialias else 1.0
    for row in range(target):
        centre = scale * (row + 0.5)
        if antialias:
            first = max(int(centre - 2 * wide + 0.5), 0)
            last = min(int(centre + 2 * wide + 0.5), source)
            taps = np.arange(first, last)
            weights = _cubic((taps + 0.5 - centre) / wide, -0.5)
            matrix[row, first:last] = weights / weights.sum()
        else:
            taps = math.floor(centre - 0.5) + np.arange(-1, 3)
            weights = _cubic(taps + 0.5 - centre, -0.75)
            np.add.at(matrix[row], np.clip(taps, 0, source - 1), weights)
    return matrix.astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    d = np.abs(x)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def declare_resampling(w: TowerWriter, side: int) -> None:
    """The inputs of towers whose grid follows the picture: matrices that resample the table."""
    w.graph.input("position_rows", "float32", ("rows", side), "resample the table")
    w.graph.input("position_columns", "float32", ("columns", side), "resample the table")


def resampled_positions(w: TowerWriter, table: Float32, side: int) -> str:
    """``rows @ table @ columns.T`` with the matrices that came in.

    Args:
        w: writer.
        table: float32 ``(side ** 2, width)``, row by row.
        side: cells along one side of it.

    Returns:
        row-major patches, float32 ``(1, patches, width)``.
    """
    width = table.shape[-1]
    square = table.reshape(side, side * width)
    flat = w.node("MatMul", ["position_rows", w.tensor("positions", square)], "positions/rows")
    grid = w.node("Reshape", [flat, w.ints(-1, side, width)], "positions/grid")
    columns = w.node("Unsqueeze", ["position_columns", w.ints(0)], "positions/columns")
    both = w.node("MatMul", [columns, grid], "positions/both")
    return w.node("Reshape", [both, w.ints(1, -1, width)], "positions/flat")
