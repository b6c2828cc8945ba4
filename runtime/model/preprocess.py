"""From a picture to the vision encoder's input, as the manifest says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.manifest import ImageSpec

UInt8 = NDArray[np.uint8]


def fit_image(image_rgb: UInt8, spec: ImageSpec) -> UInt8:
    """Resize to the encoder's input size with Pillow's filters (those of Hugging Face).

    Args:
        image_rgb: uint8 RGB ``(height, width, 3)``.
        spec: target size, fit, filter and background.

    Returns:
        uint8 RGB ``(spec.height, spec.width, 3)``.
    """
    from PIL import Image

    resample = getattr(Image.Resampling, spec.resample.upper())
    picture = Image.fromarray(image_rgb)
    target = (spec.width, spec.height)
    if spec.fit == "stretch":
        return np.asarray(picture.resize(target, resample, reducing_gap=spec.reducing_gap))
    ratios = (spec.width / picture.width, spec.height / picture.height)
    if spec.fit == "crop":
        scale = max(ratios)
        box = _centred_box(picture.size, (spec.width / scale, spec.height / scale))
        return np.asarray(picture.resize(target, resample, box, spec.reducing_gap))
    scale = min(ratios)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas = Image.new("RGB", target, spec.background)
    corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
    canvas.paste(picture.resize(inner, resample, reducing_gap=spec.reducing_gap), corner)
    return np.asarray(canvas)


def _centred_box(
    size: tuple[int, int], inner: tuple[float, float]
) -> tuple[float, float, float, float]:
    # Rounding may make the inner box larger than the picture by the last bit.
    left, top = max(0.0, (size[0] - inner[0]) / 2), max(0.0, (size[1] - inner[1]) / 2)
    return left, top, size[0] - left, size[1] - top
