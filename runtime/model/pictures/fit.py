"""One picture of one size, with Pillow's filters (those of Hugging Face)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgevlm.bundle.images import Fit, ImageSpec

UInt8 = NDArray[np.uint8]


def resized(image_rgb: UInt8, height: int, width: int, spec: ImageSpec) -> UInt8:
    """The picture stretched to a size, uint8 RGB ``(height, width, 3)``."""
    resample, gap = Image.Resampling[spec.resample.upper()], spec.reducing_gap
    if gap is not None and _halves(image_rgb, height, width, gap):
        # What Pillow's first step does, bit for bit, in a quarter of its time.
        import cv2

        size = (image_rgb.shape[1] // 2, image_rgb.shape[0] // 2)
        image_rgb = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        gap = None
    picture = Image.fromarray(image_rgb)
    return np.asarray(picture.resize((width, height), resample, reducing_gap=gap))


def _halves(image_rgb: UInt8, height: int, width: int, gap: float) -> bool:
    """True if Pillow's ``resize`` first averages whole squares of two by two."""
    tall, wide = image_rgb.shape[:2]
    factors = (int(tall / height / gap), int(wide / width / gap))
    return factors == (2, 2) and not (tall % 2 or wide % 2)


def fit_image(image_rgb: UInt8, spec: ImageSpec, policy: Fit) -> UInt8:
    """Resize to the encoder's input size.

    Args:
        image_rgb: uint8 RGB ``(height, width, 3)``.
        spec: filter.
        policy: target size, fit and background.

    Returns:
        uint8 RGB ``(policy.height, policy.width, 3)``.
    """
    height, width = image_rgb.shape[:2]
    if policy.fit == "stretch":
        return resized(image_rgb, policy.height, policy.width, spec)
    if policy.fit == "square":
        return resized(_squared(image_rgb, policy), policy.height, policy.width, spec)
    if policy.fit == "shortest":
        return _shortest(image_rgb, spec, policy)
    ratios = (policy.width / width, policy.height / height)
    if policy.fit == "crop":
        scale = max(ratios)
        box = _centred_box((width, height), (policy.width / scale, policy.height / scale))
        resample = Image.Resampling[spec.resample.upper()]
        picture = Image.fromarray(image_rgb)
        target = (policy.width, policy.height)
        return np.asarray(picture.resize(target, resample, box, spec.reducing_gap))
    scale = min(ratios)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    top, left = (policy.height - inner[0]) // 2, (policy.width - inner[1]) // 2
    if policy.fit == "corner":
        inner = corner_extent(height, width, policy)
        top = left = 0
    canvas = np.empty((policy.height, policy.width, 3), np.uint8)
    canvas[:] = policy.background
    canvas[top : top + inner[0], left : left + inner[1]] = resized(image_rgb, *inner, spec)
    return canvas


def corner_extent(height: int, width: int, policy: Fit) -> tuple[int, int]:
    """Height and width that a picture has behind the fit ``corner``."""
    scale = min(policy.width / width, policy.height / height)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def padded_square(image_rgb: UInt8, background: tuple[int, int, int]) -> UInt8:
    """The picture in the middle of a square of its longer side."""
    height, width = image_rgb.shape[:2]
    side = max(height, width)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = background
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = image_rgb
    return canvas


def _squared(image_rgb: UInt8, policy: Fit) -> UInt8:
    return padded_square(image_rgb, policy.background)


def _shortest(image_rgb: UInt8, spec: ImageSpec, policy: Fit) -> UInt8:
    """The shorter side to a size, then the centre, black where the picture does not reach."""
    height, width = image_rgb.shape[:2]
    short = policy.shortest or min(policy.height, policy.width)
    if width <= height:
        size = (int(short * height / width), short)
    else:
        size = (short, int(short * width / height))
    picture = resized(image_rgb, *size, spec)
    top, left = (size[0] - policy.height) // 2, (size[1] - policy.width) // 2
    if policy.round_half_even:
        top, left = round((size[0] - policy.height) / 2), round((size[1] - policy.width) / 2)
    if top >= 0 and left >= 0:
        return picture[top : top + policy.height, left : left + policy.width]
    canvas = np.zeros((max(policy.height, size[0]), max(policy.width, size[1]), 3), np.uint8)
    y, x = -(-(canvas.shape[0] - size[0]) // 2), -(-(canvas.shape[1] - size[1]) // 2)
    canvas[y : y + size[0], x : x + size[1]] = picture
    top, left = max(0, top + y), max(0, left + x)
    return canvas[top : top + policy.height, left : left + policy.width]


def _centred_box(
    size: tuple[int, int], inner: tuple[float, float]
) -> tuple[float, float, float, float]:
    # Rounding may make the inner box larger than the picture by the last bit.
    left, top = max(0.0, (size[0] - inner[0]) / 2), max(0.0, (size[1] - inner[1]) / 2)
    return left, top, size[0] - left, size[1] - top
