"""Text on a canvas, in the DejaVu fonts that matplotlib brings along."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgevlm.errors import ExportError
from edgevlm.export.nano_data.canvas import Canvas, Rgb
from edgevlm.frame import UInt8

FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold",
)  # fmt: skip


def write(
    canvas: Canvas,
    text: str,
    face: str,
    size: float,
    centre_xy: tuple[float, float],
    rgb: Rgb,
    owner: int | None = None,
    degrees: float = 0.0,
) -> None:
    """Write one line.

    Args:
        canvas: to write on.
        text: the line.
        face: one of ``FACES``.
        size: of the font, pixels of the picture.
        centre_xy: of the ink.
        rgb: of the ink.
        owner: of its pixels, see ``Canvas``.
        degrees: turned clockwise.

    Raises:
        ExportError: matplotlib is not installed.
    """
    ink = inked(text, face, round(size * canvas.scale))
    if degrees:
        ink = _turned(ink, degrees)
    canvas.paste(ink, centre_xy, rgb, owner)


def fitting_size(text: str, face: str, width: float, height: float) -> float:
    """The font size in pixels at which a line just fits into a rectangle."""
    ink = inked(text, face, 64)
    return float(64 * min(width / ink.shape[1], height / ink.shape[0]))


def inked(text: str, face: str, size: int) -> UInt8:
    """How much of each pixel is inked, 0 to 255, ``(height, width)``, without a rim."""
    font = _font(face, size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, font=font, fill=255)
    return np.asarray(image.crop(image.getbbox()))


def _turned(ink: UInt8, degrees: float) -> UInt8:
    height, width = ink.shape
    reach = int(np.ceil(np.hypot(height, width))) + 2
    turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), -degrees, 1.0)
    turn[:, 2] += (reach - width) / 2, (reach - height) / 2
    return np.asarray(cv2.warpAffine(ink, turn, (reach, reach)), np.uint8)


@lru_cache(maxsize=256)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_folder() / f"{face}.ttf"), size)


@lru_cache(maxsize=1)
def _folder() -> Path:
    """Matplotlib is not imported for it: that takes a second."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ExportError("text is written in matplotlib's fonts: pip install 'edgevlm[data]'")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
