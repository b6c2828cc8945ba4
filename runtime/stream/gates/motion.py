"""A gate for cameras that move: wait until the view is still."""

from __future__ import annotations

import numpy as np

from edgevlm.gates import MotionSection
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.cells import BLOCKS_WH, Cells, difference
from edgevlm.runtime.stream.gates.mask import looked_at
from edgevlm.runtime.stream.gates.view import View

TIMES = 3.0
LEAST, MOST = 2.5, 14.0  # grey levels
QUIET_STEP = 1.02  # how fast the floor rises when no frame is as quiet as it any more


class MotionGate:
    """Compares every frame with the one before.

    The noise floor is that of the quietest moments: the median over the blocks follows a quieter
    frame at once and rises slowly, for a view in motion is never quiet, and one at rest always is.

    ``measure`` is the share of blocks that differ, 0 to 1.

    Args:
        section: settings.
    """

    def __init__(self, section: MotionSection | None = None) -> None:
        self._section = section or MotionSection()
        self.measure: float | None = None
        self._mask = looked_at(self._section.ignore, BLOCKS_WH)
        self._seen = max(1, int(np.count_nonzero(self._mask)))
        self._before: Cells | None = None
        self._floor = MOST
        self._moved_s: float | None = None

    def look(self, view: View) -> Verdict:
        """``moving``, or ``new`` once the view has been still; the first frame has just moved."""
        cells, before = view.cells(), self._before
        self._before = cells
        if before is None:
            moved = True
        else:
            found = difference(cells, before).rms
            self._floor = min(self._floor * QUIET_STEP, max(float(np.median(found)), 0.1))
            limit = min(max(TIMES * self._floor, LEAST), MOST)
            self.measure = float(np.count_nonzero((found > limit) & self._mask)) / self._seen
            moved = self.measure > self._section.share
        if moved or self._moved_s is None or view.now_s < self._moved_s:
            self._moved_s = view.now_s
        return "new" if view.now_s - self._moved_s >= self._section.still_s else "moving"

    def settle(self, answered: bool) -> None:
        """Nothing is compared with it."""
