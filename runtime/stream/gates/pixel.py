"""A gate on brightness: has the picture changed since the last answer?"""

from __future__ import annotations

import numpy as np

from edgevlm.gates import PixelSection
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.cells import BLOCKS_WH, Cells, difference
from edgevlm.runtime.stream.gates.grain import Grain
from edgevlm.runtime.stream.gates.mask import looked_at
from edgevlm.runtime.stream.gates.view import View

TIMES = 3.0  # so many floors
LEAST, MOST = 4.0, 30.0  # grey levels
MOST_MEAN = 14.0  # noise averages out over a block, another scene does not
NEAR = 0.55  # of its limit, if a block and those around it differ by so much together
RESTART = 0.3  # of the blocks: another view, whose edges and leaves lie elsewhere


class PixelGate:
    """Compares blocks with those of the frame that was answered.

    The anchor is the frame that was decided about, not the one before: a slow drift adds up and
    gets a new answer, however small each step is. A block has changed if it differs by ``TIMES``
    its noise floor (``grain``), at least by ``LEAST`` and certainly by ``MOST`` grey levels; if it
    does by ``NEAR`` of that together with those around it, for noise does not agree with its
    neighbours; or if its mean does by ``MOST_MEAN``: where every frame is another scene, the floor
    is no noise.

    ``measure`` is the number of blocks that have changed.

    Args:
        section: settings.
    """

    def __init__(self, section: PixelSection | None = None) -> None:
        import cv2

        self._blur = cv2.blur
        section = section or PixelSection()
        self.measure: float | None = None
        self._blocks = section.blocks
        self._mask = looked_at(section.ignore, BLOCKS_WH)
        self._grain = Grain()
        self._anchor: Cells | None = None
        self._candidate: Cells | None = None

    def look(self, view: View) -> Verdict:
        """``same`` as the anchor, or ``new``; the first frame is new."""
        return self.judge(view.cells())

    def judge(self, cells: Cells) -> Verdict:
        """``look`` at a frame with this brightness, from ``cells_of``."""
        self._candidate = cells
        self._grain.learn(cells)
        if self._anchor is None:
            self.measure = None
            return "new"
        changed = self._changed(cells, self._anchor)
        self.measure = float(changed)
        return "new" if changed >= self._blocks else "same"

    def moved_on(self, view: View) -> bool:
        """True if a later frame differs from the one last looked at."""
        if self._candidate is None:
            return True
        return self._changed(view.cells(), self._candidate) >= self._blocks

    def settle(self, answered: bool) -> None:  # noqa: ARG002 - every answer or drop is one
        """The frame last looked at is the anchor now."""
        if self.measure is not None and self.measure > RESTART * self._mask.size:
            self._grain.restart()
        self._anchor = self._candidate

    def _changed(self, cells: Cells, others: Cells) -> int:
        found = difference(cells, others)
        part = np.square(found.rms / self._grain.limits(TIMES, LEAST, MOST))
        part *= self._mask
        over = (part > 1) | ((found.mean > MOST_MEAN) & self._mask)
        over |= self._blur(part, (3, 3)) > NEAR**2
        return int(np.count_nonzero(over))
