"""Colours of things turned into others."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgevlm.frame import UInt8


def turn_hue(rgba: UInt8, degrees: float) -> UInt8:
    """The same picture with every hue turned; what has no colour keeps having none.

    Args:
        rgba: uint8 ``(height, width, 4)``.
        degrees: 0 to 360.
    """
    image = Image.fromarray(rgba)
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    shift = round(degrees * 256 / 360)
    turned = Image.fromarray(((np.asarray(hue).astype(np.int32) + shift) % 256).astype(np.uint8))
    result = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    result.putalpha(image.getchannel("A"))
    return np.asarray(result)
