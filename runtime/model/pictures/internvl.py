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
        columns, rows = nearest_grid(*source, tile, policy.least, policy.most)
    tiles = cut(resized(image_rgb, rows * tile, columns * tile, spec), tile, tile)
    if len(tiles) == 1:
        return Prepared(pixels=tuple(tiles), source=source)
    whole = resized(image_rgb, tile, tile, spec)
    return Prepared(
        pixels=(*tiles, whole), rows=rows, columns=columns, whole=len(tiles), source=source
    )


def nearest_grid(height: int, width: int, tile: int, least: int, most: int) -> tuple[int, int]:
    """Columns and rows of the grid whose aspect ratio is nearest.

    Of equal ratios the larger grid wins while it is under half empty.

    Args:
        height: of the picture.
        width: likewise.
        tile: pixels along a side of a tile.
        least: tiles of a grid.
        most: likewise.
    """
    ratio, area = width / height, width * height
    grids = [
        (c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most
    ]
    best, smallest = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(ratio - columns / rows)
        if difference < smallest:
            best, smallest = (columns, rows), difference
        elif difference == smallest and area > 0.5 * tile**2 * columns * rows:
            best = (columns, rows)
    return best
