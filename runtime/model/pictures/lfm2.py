"""LFM2-VL: native resolution within a budget of tokens, tiles of what is far larger."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import ImageSpec, Lfm2Tiles
from edgevlm.runtime.model.pictures.fit import resized
from edgevlm.runtime.model.pictures.internvl import nearest_grid
from edgevlm.runtime.model.pictures.interpolate import antialiased_matrix
from edgevlm.runtime.model.pictures.prepared import Prepared, cut, size_of
from edgevlm.tensors import Array

UInt8 = NDArray[np.uint8]


def prepare(image_rgb: UInt8, spec: ImageSpec, policy: Lfm2Tiles) -> Prepared:
    """Cut as transformers' ``Lfm2VlImageProcessor`` does, with Pillow's filter."""
    source, tile = size_of(image_rgb), policy.tile
    whole = resized(image_rgb, *_native(*source, policy), spec)
    if not policy.split or not _far_over(*source, policy):
        return Prepared(pixels=(whole,), source=source)
    columns, rows = nearest_grid(*source, tile, policy.least, policy.most)
    tiles = cut(resized(image_rgb, rows * tile, columns * tile, spec), tile, tile)
    thumbnail = (whole,) if policy.thumbnail else ()
    return Prepared(
        pixels=(*tiles, *thumbnail),
        rows=rows,
        columns=columns,
        whole=len(tiles) if policy.thumbnail else None,
        source=source,
    )


def side_inputs(tile: UInt8, policy: Lfm2Tiles) -> dict[str, Array]:
    """The matrices that resample the position table to a tile's grid of patches."""
    high, wide = (side // policy.patch for side in size_of(tile))
    return {
        "position_rows": antialiased_matrix(policy.table_side, high),
        "position_columns": antialiased_matrix(policy.table_side, wide),
    }


def _native(height: int, width: int, policy: Lfm2Tiles) -> tuple[int, int]:
    """Both sides in whole tokens, as near to the picture's as the budget allows."""
    cell = policy.patch * policy.merge
    least, most = policy.least_tokens * cell**2, policy.most_tokens * cell**2
    high, wide = (max(cell, round(side / cell) * cell) for side in (height, width))
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        high, wide = (
            max(cell, math.floor(side / shrink / cell) * cell) for side in (height, width)
        )
    elif high * wide < least:
        grow = math.sqrt(least / (height * width))
        high, wide = (math.ceil(side * grow / cell) * cell for side in (height, width))
    return high, wide


def _far_over(height: int, width: int, policy: Lfm2Tiles) -> bool:
    """True if the picture has more pixels than the budget, and some tolerance, allows."""
    cell = policy.patch * policy.merge
    high, wide = (max(policy.patch, round(side / cell) * cell) for side in (height, width))
    return high * wide > policy.most_tokens * cell**2 * policy.tolerance
