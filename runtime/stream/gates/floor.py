"""The noise floor of many values at once, learnt while a stream runs.

Of every value (the difference of a block, of a patch) a high quantile is tracked: up by a large
step when it is exceeded and down by a small one when it is not, which needs one number a value and
settles where the share of excesses is that of the quantile (stochastic approximation, Robbins and
Monro 1951; for backgrounds of video: Manzanera and Richefeu, "A new motion detection algorithm
based on sigma-delta background estimation", Pattern Recognition Letters 28, 2007). Leaves, flames,
flicker and edges of a shaking picture so get a floor of their own, and a thing that passes does not
move a quantile.

When the gain of a sensor changes, all values change together: the median over them of value to
floor, and of that the median of the last looks, raises all floors at once.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edgevlm.tensors import Float32

QUANTILE = 0.8
FIRST_LOOKS = 20  # steps are larger while little is known
STEP, FIRST_STEP = 0.05, 0.25
RECENT = 5


class Floor:
    """Floors of an array of differences, of its shape.

    Args:
        least: no floor is lower.
        most: none is higher.
    """

    def __init__(self, least: float, most: float) -> None:
        self._bounds = least, most
        self._floors: Float32 | None = None
        self._common: deque[float] = deque(maxlen=RECENT)
        self._looks = 0

    def learn(self, found: Float32) -> None:
        """Take differences into account that are noise, for the most part."""
        least, most = self._bounds
        if self._floors is None or self._floors.shape != found.shape:
            self._floors = np.full_like(found, np.clip(np.median(found), least, most))
            self._common.clear()
            self._looks = 0
        self._common.append(float(np.median(found / self._floors)))
        self._looks += 1
        step = FIRST_STEP if self._looks <= FIRST_LOOKS else STEP
        up, down = np.float32(np.exp(step * QUANTILE)), np.float32(np.exp(step * (QUANTILE - 1)))
        self._floors *= np.where(found > self._floors, up, down)
        np.clip(self._floors, least, most, out=self._floors)

    def restart(self) -> None:
        """Learn as quickly as in the beginning, from the floors that there are."""
        self._looks = 0

    def limits(self, times: float, least: float, most: float) -> Float32 | float:
        """``times`` the floors, within bounds; ``most`` as long as nothing is known."""
        if self._floors is None:
            return most
        raised = times * max(1.0, float(np.median(self._common)))
        limits: Float32 = np.clip(self._floors * np.float32(raised), least, most)
        return limits
