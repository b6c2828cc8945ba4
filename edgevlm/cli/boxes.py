"""Boxes of a command line: left, top, width, height in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgevlm.errors import ConfigError

Box = tuple[float, float, float, float]


def box(given: str, flag: str = "--box") -> Box:
    """``X,Y,W,H`` as left, top, right, bottom.

    Raises:
        ConfigError: not four numbers.
    """
    try:
        x, y, wide, tall = (float(part) for part in given.split(","))
    except ValueError:
        x = math.nan
    if not math.isfinite(x) or not all(map(math.isfinite, (y, wide, tall))):
        raise ConfigError(f"{flag} {given}: wanted X,Y,W,H, four numbers in pixels")
    return x, y, x + wide, y + tall


def boxes(given: Sequence[str], pictures: int) -> list[Box | None]:
    """One box for every picture, or none for any.

    Raises:
        ConfigError: another number of boxes than of pictures, or not four numbers.
    """
    if not given:
        return [None] * pictures
    if len(given) != pictures:
        raise ConfigError(f"{len(given)} --box for {pictures} pictures: one for each, or none")
    return [box(one) for one in given]
