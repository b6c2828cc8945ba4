"""Round cuts of scikit-image's photographs, laid on drawn backgrounds: things to be found again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from edgevlm.export.nano_data.backgrounds import table_scene, textured

UInt8 = NDArray[np.uint8]
Box = tuple[float, float, float, float]
SIZE = (480, 360)
# Name -> photograph, and the middle and side of the square around what is cut out of it.
CUTS = {"cat": ("chelsea", 215, 135, 170), "cup": ("coffee", 300, 190, 300),
        "face": ("astronaut", 225, 110, 150), "rocket": ("rocket", 320, 190, 220)}  # fmt: skip


@cache
def sticker(name: str) -> UInt8:
    """uint8 RGB, square."""
    photograph, x, y, side = CUTS[name]
    whole: UInt8 = getattr(data, photograph)()
    half = side // 2
    return np.ascontiguousarray(whole[max(0, y - half) : y + half, max(0, x - half) : x + half])


def scene(laid: Sequence[tuple[str, int, int, int]], seed: int = 0) -> tuple[UInt8, list[Box]]:
    """A picture with stickers, and their boxes.

    Args:
        laid: name, left, top and side of each.
        seed: of the background.
    """
    rng = np.random.default_rng(seed)
    picture = (table_scene if seed % 2 else textured)(SIZE, rng).copy()
    boxes = []
    for name, left, top, side in laid:
        cut = cv2.resize(sticker(name), (side, side), interpolation=cv2.INTER_AREA)
        mask = np.zeros((side, side), np.uint8)
        cv2.circle(mask, (side // 2, side // 2), side // 2 - 1, 1, -1)
        part = picture[top : top + side, left : left + side]
        part[mask > 0] = cut[mask > 0]
        boxes.append((float(left), float(top), float(left + side), float(top + side)))
    return picture, boxes


def shots(name: str, count: int) -> list[tuple[UInt8, Box]]:
    """Pictures of one thing among nothing else, each with its box."""
    found = []
    for n in range(count):
        picture, (box,) = scene([(name, 60 + 90 * n, 40 + 60 * n, 130 + 20 * n)], seed=10 + n)
        found.append((picture, box))
    return found
