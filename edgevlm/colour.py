"""Colours of things, named by what their pixels are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgevlm.frame import UInt8
from edgevlm.tensors import Array

COLOURS = (
    "black", "white", "grey", "brown", "red", "orange", "yellow", "green", "blue", "purple", "pink",
)  # fmt: skip
_SURE = 0.55  # share of a thing's pixels that must agree
# Upper ends of hue ranges in degrees; red comes round again.
_HUES = (
    (16, "red"), (44, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (290, "purple"),
    (338, "pink"), (361, "red"),
)  # fmt: skip
_CODE = {name: number for number, name in enumerate(COLOURS)}
_HUE_ENDS = np.array([end for end, _ in _HUES])
_HUE_CODES = np.array([_CODE[name] for _, name in _HUES])
_DARK, _LIGHT, _PALE = 0.22, 0.80, 0.20
_BROWN_BELOW = 0.62  # an orange that is darker than this is called brown


def colour_name(rgb: UInt8, mask: Array) -> str | None:
    """The colour of most of a thing, of eleven basic ones.

    Args:
        rgb: uint8 ``(height, width, 3)``.
        mask: bool ``(height, width)``, the pixels of the thing.

    Returns:
        black, white, grey, brown or a hue; None where no colour has a clear majority.
    """
    pixels = rgb[mask].reshape(-1, 1, 3)
    if not len(pixels):
        return None
    hsv = np.asarray(Image.fromarray(pixels, "RGB").convert("HSV"))[:, 0].astype(np.float32)
    hue, saturation, value = hsv[:, 0] * (360 / 256), hsv[:, 1] / 255, hsv[:, 2] / 255
    coded = np.select(
        [value < _DARK, saturation < _PALE],
        [_CODE["black"], np.where(value > _LIGHT, _CODE["white"], _CODE["grey"])],
        default=_HUE_CODES[np.searchsorted(_HUE_ENDS, hue, side="right")],
    )
    coded = np.where((coded == _CODE["orange"]) & (value < _BROWN_BELOW), _CODE["brown"], coded)
    counts = np.bincount(coded, minlength=len(COLOURS))
    best = int(counts.argmax())
    return COLOURS[best] if counts[best] >= _SURE * len(coded) else None
