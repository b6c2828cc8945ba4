"""The same picture in fewer visual rows, where the rows lie in a grid."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from edgevlm.bundle.images import AnyResolution, Fit, Idefics3Tiles, ImageSpec, InternVLTiles
from edgevlm.runtime.model.vision import Encoded, Segment
from edgevlm.tensors import Float32

LEAST = 4  # rows of a picture: fewer than two by two show nothing of where things are


def row_count(encoded: Encoded) -> int:
    """Visual rows of a picture."""
    return sum(len(segment.rows) for segment in encoded.segments)


def fewer(encoded: Encoded, most: int, spec: ImageSpec) -> Encoded | None:
    """A picture in at most ``most`` rows, as many of them as its grid allows.

    Of a picture that was cut into tiles, the whole picture stays. Its rows are averaged over the
    cells of a coarser grid, as older frames' are in Free Video-LLM (Han et al., 2024,
    arXiv:2410.10441) and Visual Context Window Extension (Wei and Chen, 2024, arXiv:2409.20018).

    Args:
        encoded: what the encoder gave.
        most: rows.
        spec: image section of the manifest; says how the rows lie.

    Returns:
        the picture itself if it fits; None where its rows lie in no known grid, or would be less
        than ``LEAST``.
    """
    if row_count(encoded) <= most:
        return encoded
    if len(encoded.segments) > 1:
        if encoded.whole is None:
            return None
        encoded = _whole(encoded, spec)
        if row_count(encoded) <= most:
            return encoded
    segment = encoded.segments[0]
    grid = _grid(segment, spec)
    if grid is None or most < LEAST:
        return None
    rows, columns = grid
    tail = len(segment.rows) - rows * columns
    target = _coarser(rows, columns, most - tail)
    if target is None:
        return None
    coarse = _segment(segment, grid, target)
    return dataclasses.replace(encoded, segments=(coarse,))


def pool(rows: Float32, grid: tuple[int, int], target: tuple[int, int]) -> Float32:
    """Means over the cells of a coarser grid; cells overlap where sizes do not divide.

    Args:
        rows: float32 ``(..., grid rows * grid columns, width)``.
        grid: of them.
        target: rows and columns of the coarser grid.

    Returns:
        float32 ``(..., target rows * target columns, width)``.

    Source: cells as in PyTorch's ``adaptive_avg_pool2d``.
    """
    width = rows.shape[-1]
    plane = rows.reshape(*rows.shape[:-2], *grid, width)
    down, across = _means(grid[0], target[0]), _means(grid[1], target[1])
    pooled = np.einsum("ah,bw,...hwd->...abd", down, across, plane, optimize=True)
    return np.ascontiguousarray(
        pooled.reshape(*rows.shape[:-2], target[0] * target[1], width), np.float32
    )


def _whole(encoded: Encoded, spec: ImageSpec) -> Encoded:
    """A picture that was cut into tiles, as one that was not."""
    assert encoded.whole is not None
    rule = spec.expansion
    parts: tuple[str | int, ...] = (rule.prefix + rule.single, 0, rule.suffix)
    return dataclasses.replace(
        encoded,
        segments=(encoded.segments[encoded.whole],),
        expansion=tuple(part for part in parts if part != ""),
        whole=None,
    )


def _grid(segment: Segment, spec: ImageSpec) -> tuple[int, int] | None:
    """Rows and columns of a segment's visual rows; None where that is not known."""
    policy, count = spec.policy, len(segment.rows)
    if segment.grid is not None:
        return segment.grid
    if isinstance(policy, AnyResolution):  # its newline stands behind the grid
        whole = count == policy.side**2 + 1
        return (policy.side, policy.side) if whole else None
    square = isinstance(policy, Idefics3Tiles | InternVLTiles) or (
        isinstance(policy, Fit) and policy.height == policy.width
    )
    side = math.isqrt(count)
    return (side, side) if square and side * side == count else None


def _coarser(rows: int, columns: int, most: int) -> tuple[int, int] | None:
    """The largest grid of about the same shape with at most ``most`` cells."""
    for down in range(rows, 0, -1):
        across = min(columns, max(1, round(columns * down / rows)))
        if down * across <= most:
            return (down, across) if down * across >= LEAST else None
    return None


def _segment(segment: Segment, grid: tuple[int, int], target: tuple[int, int]) -> Segment:
    count, deep = grid[0] * grid[1], segment.deepstack
    tail = segment.rows[count:]
    return Segment(
        np.concatenate([pool(segment.rows[:count], grid, target), tail]),
        None if deep is None else pool(deep, grid, target),
        None if segment.grid is None else target,
    )


def _means(size: int, cells: int) -> Float32:
    """``(cells, size)``: which of ``size`` values each cell is the mean of."""
    weights = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, -(-(cell + 1) * size // cells)
        weights[cell, start:stop] = 1 / (stop - start)
    return weights
