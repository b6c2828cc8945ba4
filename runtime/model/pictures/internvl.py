"""InternVL: the grid of tiles whose aspect ratio is nearest, and a thumbnail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import ImageSpec, InternVLTiles
from edgevlm.runtime.model.pictures.fit import resized
from edgevlm.runtime.model.pictures.prepared import Prepared, cut, size_of

UInt8 = NDArray[np.uint8]


def prepare(image_rgb: UInt8, spec: ImageSpec, policy: InternVLTiles) -> Prepared:
    """Cut as transformers' ``GotOcr2ImageProcessorPil`` does."""
    source, tile = size_of(image_rgb), policy.tile
    columns, rows = (1, 1)
    if policy.split and policy.most > 1:
        columns, rows = _canvas(*source, policy)
    tiles = cut(resized(image_rgb, rows * tile, columns * tile, spec), tile, tile)
    if len(tiles) == 1:
        return Prepared(pixels=tuple(tiles), source=source)
    whole = resized(image_rgb, tile, tile, spec)
    return Prepared(
        pixels=(*tiles, whole), rows=rows, columns=columns, whole=len(tiles), source=source
    )


def _canvas(height: int, width: int, policy: InternVLTiles) -> tuple[int, int]:
    """Columns and rows. Of equal ratios the larger grid wins while it is under half empty."""
    ratio, area = width / height, width * height
    grids = [
        (c, r)
        for c in range(1, policy.most + 1)
        for r in range(1, policy.most + 1)
        if policy.least <= c * r <= policy.most
    ]
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(ratio - columns / rows)
        if difference < least:
            best, least = (columns, rows), difference
        elif difference == least and area > 0.5 * policy.tile**2 * columns * rows:
            best = (columns, rows)
    return best
