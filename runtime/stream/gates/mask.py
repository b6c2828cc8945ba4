"""Parts of a picture that a gate does not look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgevlm.area import Area


def looked_at(ignore: Sequence[Area], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Bool ``(height, width)`` of a grid over the picture: False where an ignored area touches."""
    width, height = size_wh
    mask = np.ones((height, width), np.bool_)
    for area in ignore:
        mask[area.slices(height, width)] = False
    return mask
