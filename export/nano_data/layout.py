"""Where things can stand without hiding each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgevlm.export.nano_data.composition import Placement

TRIES = 60


def free_place(
    placement: Placement,
    others: Sequence[Placement],
    size_wh: tuple[int, int],
    rng: np.random.Generator,
    gap_px: int = 4,
) -> Placement | None:
    """The same placement at a random place inside the picture where no other one stands.

    Args:
        placement: what is to be placed; where it stands does not matter.
        others: what already stands there; each is taken as a square of its side.
        size_wh: of the picture.
        rng: chooses.
        gap_px: between two squares.

    Returns:
        None if no free place was found in ``TRIES`` attempts, or the thing is too large.
    """
    half = placement.side / 2
    if min(size_wh) < placement.side:
        return None
    for _ in range(TRIES):
        x, y = (float(rng.uniform(half, side - half)) for side in size_wh)
        if all(
            max(abs(x - o.centre_xy[0]), abs(y - o.centre_xy[1])) >= half + o.side / 2 + gap_px
            for o in others
        ):
            return replace(placement, centre_xy=(x, y))
    return None
