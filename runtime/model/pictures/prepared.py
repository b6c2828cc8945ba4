"""A picture as the vision encoder gets it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Tiles, and where they lie in the picture.

    Args:
        pixels: uint8 RGB ``(height, width, 3)`` each: the tiles row by row, all of one size, with
            the whole picture, which may have another one, where ``whole`` says.
        rows: tiles from top to bottom; 0 where the picture was not cut.
        columns: tiles from left to right; 0 where the picture was not cut.
        whole: index of the whole picture among ``pixels``; None where there is none.
        source: height and width of the picture as it came.
        token_grid: rows and columns of visual tokens, at native resolution.
        extent: height and width of the picture in the upper left corner of its one tile; None
            where it fills the tile or lies elsewhere.
    """

    pixels: tuple[UInt8, ...]
    rows: int = 0
    columns: int = 0
    whole: int | None = 0
    source: tuple[int, int]
    token_grid: tuple[int, int] | None = None
    extent: tuple[int, int] | None = None

    @property
    def tiles(self) -> list[int]:
        """Indices of the tiles among ``pixels``, row by row."""
        return [n for n in range(len(self.pixels)) if n != self.whole]


def size_of(image_rgb: UInt8) -> tuple[int, int]:
    """Height and width."""
    return image_rgb.shape[0], image_rgb.shape[1]


def cut(image_rgb: UInt8, tile_height: int, tile_width: int) -> list[UInt8]:
    """Whole tiles, row by row."""
    height, width = image_rgb.shape[:2]
    return [
        np.ascontiguousarray(image_rgb[y : y + tile_height, x : x + tile_width])
        for y in range(0, height, tile_height)
        for x in range(0, width, tile_width)
    ]
