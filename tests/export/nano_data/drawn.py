"""Stamps that are drawn here, so that tests know every pixel of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgevlm.export.nano_data.stamps import Stamp


def square(folder: Path, name: str, rgb: tuple[int, int, int], side: int = 60) -> Stamp:
    """A stamp that is one opaque square, with a transparent rim around it."""
    pixels = np.zeros((side + 20, side + 20, 4), np.uint8)
    pixels[10:-10, 10:-10] = (*rgb, 255)
    return stored(folder, f"things/{name}.png", pixels, f"A {name}.")


def stored(folder: Path, path: str, pixels: np.ndarray, caption: str) -> Stamp:
    """Write a stamp as the package has them."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    file.with_suffix(".txt").write_text(caption + "\nde.utf8=Ein Ding.\n", "utf-8")
    return Stamp(folder, path, caption.removeprefix("A ").removesuffix("."))
