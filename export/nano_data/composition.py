"""Puts stamps onto a background and says exactly where each of them can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgevlm.colour import colour_name
from edgevlm.errors import ContractError
from edgevlm.export.nano_data.colours import turn_hue
from edgevlm.frame import UInt8

FEATHER_PX = 0.8  # a cut-out's hard edge would give it away
Box = tuple[int, int, int, int]


class CutOut(Protocol):
    """A thing on a transparent ground; equal ones have equal pixels."""

    @property
    def name(self) -> str:
        """Of the thing, without article, in lower case."""
        ...

    @property
    def kind(self) -> str:
        """What kind of thing it is: ``animals``, ``food``, ``vehicles`` ..."""
        ...

    def rgba(self) -> UInt8:
        """Its pixels, uint8 ``(height, width, 4)``, not to be written to."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One stamp in a scene.

    Args:
        stamp: what.
        centre_xy: in pixels of the background, fractions of a pixel included.
        side: pixels of the stamp's longer side.
        degrees: turned counter-clockwise.
        mirrored: left for right, before it is turned.
        hue: degrees by which its colours are turned.
        opacity: from 0, not there, to 1.
    """

    stamp: CutOut
    centre_xy: tuple[float, float]
    side: int
    degrees: float = 0.0
    mirrored: bool = False
    hue: float = 0.0
    opacity: float = 1.0

    def __post_init__(self) -> None:
        if self.side < 2 or not 0 <= self.opacity <= 1:
            raise ContractError(
                "a stamp is placed with a side of at least 2 pixels and an opacity from 0 to 1, "
                f"got {self.side} and {self.opacity}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thing:
    """What can be seen of one placement.

    Args:
        placement: what was put there.
        box_xyxy: of its visible pixels, the right and lower edge outside.
        mask: bool ``(height, width)`` of the scene, its visible pixels.
        seen: share of it that neither another thing nor the border hides.
        colour: of its visible pixels; None where no colour prevails.
    """

    placement: Placement
    box_xyxy: Box
    mask: NDArray[np.bool_]
    seen: float
    colour: str | None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.placement.stamp.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Composition:
    """A picture with everything that is in it.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.
        things: those of which a pixel can be seen, the hindmost first.
    """

    image_rgb: UInt8
    things: tuple[Thing, ...]


def compose(background_rgb: UInt8, placements: Sequence[Placement]) -> Composition:
    """Blend stamps over a background, later ones in front.

    Args:
        background_rgb: uint8 ``(height, width, 3)``; stays as it is.
        placements: any number of them; where they reach outside they are cut off.

    Returns:
        the picture and, exactly, what is where.
    """
    picture = background_rgb.astype(np.float32)
    owner = np.full(picture.shape[:2], -1, np.int16)
    whole = []
    for number, placement in enumerate(placements):
        sprite = _sprite(placement)
        solid = sprite[..., 3] > 0.5
        whole.append(int(solid.sum()) if placement.opacity > 0.5 else 0)
        part = _overlap(sprite, placement.centre_xy, picture.shape)
        if part is None:
            continue
        rows, columns, cut = part
        alpha = cut[..., 3:] * placement.opacity
        picture[rows, columns] += alpha * (cut[..., :3] - picture[rows, columns])
        if placement.opacity > 0.5:
            owner[rows, columns][cut[..., 3] > 0.5] = number
    image = np.rint(picture).astype(np.uint8)
    things = []
    for number, placement in enumerate(placements):
        mask = owner == number
        if (box := box_of(mask)) is not None:
            things.append(
                Thing(
                    placement=placement,
                    box_xyxy=box,
                    mask=mask,
                    seen=int(mask.sum()) / whole[number],
                    colour=colour_name(image, mask),
                )
            )
    return Composition(image_rgb=image, things=tuple(things))


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box around the True pixels, right and lower edge outside; None if none is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


_Part = tuple[slice, slice, NDArray[np.float32]]


def _overlap(
    sprite: NDArray[np.float32], centre_xy: tuple[float, float], shape: tuple[int, ...]
) -> _Part | None:
    """Rows and columns of the scene that a sprite covers, and its pixels there."""
    height, width = sprite.shape[:2]
    left, top = round(centre_xy[0] - width / 2), round(centre_xy[1] - height / 2)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(shape[1], left + width), min(shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return None
    return slice(y0, y1), slice(x0, x1), sprite[y0 - top : y1 - top, x0 - left : x1 - left]


def _sprite(placement: Placement) -> NDArray[np.float32]:
    p = placement
    return _drawn(p.stamp, p.side, p.degrees, p.mirrored, p.hue)


@lru_cache(maxsize=256)
def _drawn(
    stamp: CutOut, side: int, degrees: float, mirrored: bool, hue: float
) -> NDArray[np.float32]:
    """A stamp as it is blended: float32 ``(height, width, 4)``, colours 0-255, alpha 0-1."""
    pixels = stamp.rgba()
    image = Image.fromarray(turn_hue(pixels, hue) if hue else pixels)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Resized with its alpha multiplied in, or the hidden colour of its ground would bleed in.
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    if degrees:
        image = image.convert("RGBa").rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        image = image.convert("RGBA")
    margin = 3
    room = Image.new("RGBA", (image.width + 2 * margin, image.height + 2 * margin))
    room.paste(image, (margin, margin))
    alpha = room.getchannel("A").filter(ImageFilter.GaussianBlur(FEATHER_PX))
    sprite = np.asarray(room).astype(np.float32)
    # Never beyond the stamp's own edge: what lies there has no colour of its own.
    sprite[..., 3] = np.minimum(sprite[..., 3], np.asarray(alpha)) / 255
    sprite.setflags(write=False)
    return sprite
