"""Idefics3 and SmolVLM: tiles of the enlarged picture, and the whole picture behind them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import Idefics3Tiles, ImageSpec
from edgevlm.runtime.model.pictures.fit import resized
from edgevlm.runtime.model.pictures.prepared import Prepared, cut, size_of

UInt8 = NDArray[np.uint8]
LONGEST = 4096  # of any picture, whatever the settings say


def prepare(image_rgb: UInt8, spec: ImageSpec, policy: Idefics3Tiles) -> Prepared:
    """Cut as transformers' ``Idefics3ImageProcessorPil`` does."""
    source = size_of(image_rgb)
    tile = policy.tile
    height, width = _longest_side(*source, policy.longest)
    picture = resized(image_rgb, height, width, spec)
    if not policy.split:
        whole = resized(picture, tile, tile, spec)
        return Prepared(pixels=(whole,), source=source)
    picture = resized(picture, *_whole_tiles(height, width, tile), spec)
    height, width = picture.shape[:2]
    if height <= tile and width <= tile:
        return Prepared(pixels=(picture,), source=source)
    tiles = cut(picture, tile, tile)
    whole = resized(picture, tile, tile, spec)
    return Prepared(
        pixels=(*tiles, whole),
        rows=height // tile,
        columns=width // tile,
        whole=len(tiles),
        source=source,
    )


def _longest_side(height: int, width: int, longest: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height:
        width = longest
        height = int(width / ratio)
        height += height % 2
    else:
        height = longest
        width = int(height * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > LONGEST:
        width, height = LONGEST, int(LONGEST / ratio)
    elif height > width and height > LONGEST:
        height, width = LONGEST, int(LONGEST * ratio)
    return max(height, 1), max(width, 1)


def _whole_tiles(height: int, width: int, tile: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        height = math.ceil(int(width / ratio) / tile) * tile
    else:
        height = math.ceil(height / tile) * tile
        width = math.ceil(int(height * ratio) / tile) * tile
    return height, width
