"""One good picture as it may come again: a little brighter, noisier, or moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.runtime.model.image import load_image

UInt8 = NDArray[np.uint8]
BRIGHTER = 0.08  # share
NOISE = 4.0  # deviation, grey levels
MOVED = 0.01  # share of a side
_SEED = 11


def variations(image: Any) -> list[UInt8]:
    """Six pictures, uint8 RGB of the same size.

    Raises:
        ImageError: a picture that cannot be taken.
    """
    import cv2

    picture = load_image(image)
    height, width = picture.shape[:2]
    found = []
    for light in (1 - BRIGHTER, 1 + BRIGHTER):
        found.append(_clipped(picture.astype(np.float32) * light))
    for seed in (_SEED, _SEED + 1):
        grain = np.random.default_rng(seed).normal(0, NOISE, picture.shape)
        found.append(_clipped(picture + grain))
    for sign in (-1, 1):
        shift = np.array([[1, 0, sign * MOVED * width], [0, 1, sign * MOVED * height]], np.float32)
        moved = cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        found.append(np.asarray(moved, np.uint8))
    return found


def _clipped(picture: NDArray[np.floating[Any]]) -> UInt8:
    found: UInt8 = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return found
