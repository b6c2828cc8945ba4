"""SceneTilling: a scene ends where the likeness of neighbouring frames has a deep valley.

Source: VideoLLaMB (Wang et al., arXiv 2409.01071), section 3.1, which cuts a whole video: the depth
of a valley is how far the similarities rise on both of its sides. A stream knows the left side
only. Climbing left from i ends where it ended for i - 1, if that is uphill, and at i itself if not:
one number carries it on, and every frame costs the same. "Deep" is alpha standard deviations above
the mean of the depths, here exponentially weighted with a half-life, and a least depth, without
which noise on a still picture would have boundaries too.
"""

from __future__ import annotations

import math

HALF_LIFE_S = 30.0
FIRST = 8  # depths that must be known before their deviation means anything


class LeftDepth:
    """Depth of a valley as seen from the left."""

    def __init__(self) -> None:
        self._before = -math.inf
        self._top = -math.inf

    def push(self, similarity: float) -> float:
        """How far one climbs to the left, starting from the newest similarity, which is given."""
        if self._before < similarity:
            self._top = similarity
        self._before = similarity
        return self._top - similarity


class Boundaries:
    """Says at which frames a new scene begins.

    Args:
        alpha: standard deviations above the mean of the depths.
        least_depth: a boundary is no less deep.
    """

    def __init__(self, alpha: float, least_depth: float) -> None:
        self._alpha = alpha
        self._least = least_depth
        self._depths = LeftDepth()
        self._known = 0
        self._mean = self._variance = 0.0

    def push(self, similarity: float, since_s: float) -> tuple[float, bool]:
        """One more frame.

        Args:
            similarity: cosine with the frame before.
            since_s: seconds since the frame before.

        Returns:
            the depth, and whether a scene begins with this frame.
        """
        depth = self._depths.push(similarity)
        usual = self._mean + self._alpha * math.sqrt(self._variance)
        deep = depth > self._least and (self._known < FIRST or depth > usual)
        self._known += 1
        weight = max(1 / self._known, 1 - 0.5 ** (max(0.0, since_s) / HALF_LIFE_S))
        gap = depth - self._mean
        self._mean += weight * gap
        self._variance = (1 - weight) * (self._variance + weight * gap * gap)
        return depth, deep
