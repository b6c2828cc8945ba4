"""Qwen-VL: native resolution within a budget of pixels, and what the encoder wants to know."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import ImageSpec, SmartResize
from edgevlm.errors import ImageError
from edgevlm.runtime.model.pictures.fit import resized
from edgevlm.runtime.model.pictures.interpolate import corner_matrix
from edgevlm.runtime.model.pictures.prepared import Prepared, size_of
from edgevlm.tensors import Array

UInt8 = NDArray[np.uint8]
THINNEST = 200  # no aspect ratio beyond this


def prepare(image_rgb: UInt8, spec: ImageSpec, policy: SmartResize) -> Prepared:
    """Resize as transformers' ``Qwen2VLImageProcessorPil`` does.

    Raises:
        ImageError: an aspect ratio over 200.
    """
    source = size_of(image_rgb)
    height, width = _size(*source, policy)
    cell = policy.patch * policy.merge
    return Prepared(
        pixels=(resized(image_rgb, height, width, spec),),
        source=source,
        token_grid=(height // cell, width // cell),
    )


def side_inputs(prepared: Prepared, policy: SmartResize) -> dict[str, Array]:
    """What the encoder cannot know by itself.

    Returns:
        ``order`` int64 ``(patches,)`` puts row-major patches into groups that are merged;
        ``rope_cos`` and ``rope_sin`` float32 ``(patches, head_dim / 2)`` in that order; with
        windows ``windows`` int64 ``(windows * patches of a window,)`` (gather indices, 0 where a
        window is not full), ``window_mask`` float32 ``(windows, 1, 1, patches of a window)`` (0
        or -1e4), ``unwindow`` int64 ``(patches,)`` and ``restore`` int64 ``(tokens,)``; with a
        position table ``position_rows`` and ``position_columns``.
    """
    if prepared.token_grid is None:
        return {}
    rows, columns = (n * policy.merge for n in prepared.token_grid)
    order = _merge_order(rows, columns, policy.merge)
    feeds: dict[str, Array] = {}
    if policy.window is not None:
        per_side = policy.window // policy.patch // policy.merge
        groups, sizes = _windows(*prepared.token_grid, per_side)
        unit = policy.merge**2
        order = order.reshape(-1, unit)[groups].reshape(-1)
        feeds |= _window_feeds(sizes * unit, per_side**2 * unit)
        feeds["restore"] = np.argsort(groups)
    y, x = np.divmod(order, columns)
    quarter = policy.head_dim // 4
    frequencies = policy.rope_theta ** (-np.arange(quarter, dtype=np.float64) / quarter)
    angles = np.concatenate([y[:, None] * frequencies, x[:, None] * frequencies], axis=1)
    feeds["order"] = order
    feeds["rope_cos"] = np.cos(angles).astype(np.float32)
    feeds["rope_sin"] = np.sin(angles).astype(np.float32)
    if policy.table_side is not None:
        feeds["position_rows"] = corner_matrix(policy.table_side, rows)
        feeds["position_columns"] = corner_matrix(policy.table_side, columns)
    return feeds


def _size(height: int, width: int, policy: SmartResize) -> tuple[int, int]:
    if max(height, width) / min(height, width) > THINNEST:
        raise ImageError(
            f"a picture of {width}x{height} is thinner than 1:{THINNEST}; cut it into pieces"
        )
    cell = policy.patch * policy.merge
    high, wide = round(height / cell) * cell, round(width / cell) * cell
    if high * wide > policy.most_pixels:
        shrink = math.sqrt(height * width / policy.most_pixels)
        high = max(cell, math.floor(height / shrink / cell) * cell)
        wide = max(cell, math.floor(width / shrink / cell) * cell)
    elif high * wide < policy.least_pixels:
        grow = math.sqrt(policy.least_pixels / (height * width))
        high = math.ceil(height * grow / cell) * cell
        wide = math.ceil(width * grow / cell) * cell
    return high, wide


def _merge_order(rows: int, columns: int, merge: int) -> NDArray[np.int64]:
    grid = np.arange(rows * columns).reshape(rows // merge, merge, columns // merge, merge)
    order: NDArray[np.int64] = grid.transpose(0, 2, 1, 3).reshape(-1)
    return order


def _windows(rows: int, columns: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens in the order of their windows, and how many each window holds."""
    grid = np.arange(rows * columns).reshape(rows, columns)
    windows = [
        grid[y : y + side, x : x + side].reshape(-1)
        for y in range(0, rows, side)
        for x in range(0, columns, side)
    ]
    return np.concatenate(windows), np.array([len(w) for w in windows])


def _window_feeds(sizes: NDArray[np.int64], full: int) -> dict[str, Array]:
    starts = np.cumsum(sizes) - sizes
    inside = np.arange(full)[None] < sizes[:, None]
    index = np.where(inside, starts[:, None] + np.arange(full)[None], 0)
    mask = np.where(inside, 0.0, -1e4).astype(np.float32)
    return {
        "windows": index.reshape(-1),
        "window_mask": mask[:, None, None],
        "unwindow": np.flatnonzero(inside.reshape(-1)),
    }
