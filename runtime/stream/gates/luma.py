"""A gate on brightness: has the picture changed since the last answer?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.frame import Frame, UInt8

GRID_WH = (64, 36)


class LumaGate:
    """Compares block means of the luma plane with those of the last answered frame.

    The anchor is the frame that was answered, not the previous frame: a slow drift adds up and
    gets a new answer, however small each step is.

    Args:
        levels: a block has changed if its mean moved by more than this, in 8-bit grey levels;
            above sensor noise, which averages out over a block.
        blocks: how many of the 64 x 36 blocks must have changed.
    """

    def __init__(self, levels: int = 10, blocks: int = 12) -> None:
        import cv2

        self._resize = cv2.resize
        self._area = cv2.INTER_AREA
        self._levels = levels
        self._blocks = blocks
        self._anchor: NDArray[np.int16] | None = None
        self._candidate: NDArray[np.int16] | None = None

    def changed(self, frame: Frame) -> bool:
        """True for the first frame, and for one that differs from the anchor."""
        return self.differs(frame.pixels.luma())

    def differs(self, luma: UInt8) -> bool:
        """``changed`` of a frame with this brightness.

        Args:
            luma: uint8 ``(height, width)``.
        """
        self._candidate = self._means(luma)
        return self._anchor is None or self._differ(self._candidate, self._anchor)

    def moved_on(self, frame: Frame) -> bool:
        """True if a later frame differs from the one last looked at."""
        means = self._means(frame.pixels.luma())
        return self._candidate is None or self._differ(means, self._candidate)

    def _means(self, luma: UInt8) -> NDArray[np.int16]:
        # Every other row is enough for block means of 1080 rows, and halves the memory read.
        rows = luma[:: max(1, luma.shape[0] // 540)]
        small = self._resize(rows, GRID_WH, interpolation=self._area)
        return np.asarray(small, np.int16)

    def _differ(self, one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
        return int(np.count_nonzero(np.abs(one - other) > self._levels)) >= self._blocks

    def accept(self) -> None:
        """The frame last looked at has been answered: it is the anchor now."""
        self._anchor = self._candidate
