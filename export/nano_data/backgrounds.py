"""Backgrounds that are drawn: a wall and a table, a worn plate, plain or textured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgevlm.errors import ContractError
from edgevlm.frame import UInt8

SMALLEST = 224  # pixels of a side: what is drawn can be read at this size


def noise_field(
    size_wh: tuple[int, int], cell_px: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Smooth noise from -1 to 1, ``(height, width)``, with blotches of about ``cell_px``."""
    width, height = size_wh
    cells = max(2, round(height / cell_px)), max(2, round(width / cell_px))
    coarse = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
    return np.asarray(coarse.resize(size_wh, Image.Resampling.BICUBIC))


def table_scene(size_wh: tuple[int, int], rng: np.random.Generator) -> UInt8:
    """A table before a wall: two tints, light from one side, a grain along the table.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    width, height = size_wh
    edge = round(height * rng.uniform(0.25, 0.45))
    wall, table = rng.uniform(120, 220, 3), rng.uniform(60, 190, 3)
    picture = np.empty((height, width, 3), np.float32)
    picture[:edge], picture[edge:] = wall, table
    # Grain is stretched along the table.
    grain = Image.fromarray(rng.normal(0, 1, (height, max(2, width // 24))).astype(np.float32))
    stretched = np.asarray(grain.resize(size_wh, Image.Resampling.BICUBIC))
    picture[edge:] += rng.uniform(3, 9) * stretched[edge:, :, None]
    picture += 14 * noise_field(size_wh, height / 3, rng)[..., None]
    picture += 3 * noise_field(size_wh, 6, rng)[..., None]
    across = np.linspace(-1, 1, width, dtype=np.float32)
    picture *= 1 + rng.uniform(-0.18, 0.18) * across[None, :, None]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)))


def textured(size_wh: tuple[int, int], rng: np.random.Generator) -> UInt8:
    """One tint with blotches in three sizes.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    shape = size_wh[1], size_wh[0], 3
    picture = np.full(shape, rng.uniform(70, 190, 3), np.float32)
    for cell_px, strength in ((size_wh[1] / 3, 18), (24, 9), (4, 6)):
        tint = rng.uniform(0.6, 1.0, 3)
        picture += strength * tint * noise_field(size_wh, cell_px, rng)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def drawn_ground(side: int, rng: np.random.Generator) -> UInt8:
    """Any background for a drawn thing: textured, a table, or plain with a fall of light.

    Args:
        side: of the square, pixels, at least ``SMALLEST``.
        rng: chooses.

    Raises:
        ContractError: a smaller side.

    Returns:
        uint8 RGB ``(side, side, 3)``; made at half the size, which a camera hardly shows.
    """
    if side < SMALLEST:
        raise ContractError(f"pictures have a side of at least {SMALLEST} pixels, got {side}")
    half = (side + 1) // 2
    chance = rng.random()
    if chance < 0.6:
        small = textured((half, half), rng)
    elif chance < 0.8:
        small = table_scene((half, half), rng)
    else:
        tint = rng.uniform(40, 235, 3)
        light = 1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, half)
        small = np.clip(np.tile(light[:, None, None] * tint, (1, half, 1)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR))
