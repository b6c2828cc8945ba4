"""Brightness in cells and blocks: how much two frames differ, and where.

A frame becomes 240 x 135 cells, and a block is 3 x 3 of them. Blocks are compared by the root mean
square of the differences of their cells, in 8-bit grey levels: a block whose mean stays the same
while its pattern changes has changed. Before that, a common gain is taken out, within bounds: a
camera that sets its exposure anew multiplies all brightness (above black) by about one factor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgevlm.frame import UInt8
from edgevlm.tensors import Float32

Cells = Float32  # (135, 240)
Blocks = Float32  # (45, 80)

CELLS_WH = (240, 135)
BLOCKS_WH = (80, 45)
SIDE = 3
ROWS_READ = 540  # of a taller picture every n-th row is enough for means
BLACK = 16.0  # BT.601 and BT.709 video range; a few levels off for full range, which is harmless
GAIN_AT_MOST = 1.3
LIT = (32.0, 230.0)  # a gain shows where it is neither too dark nor clipped
LIT_SHARE = 0.1
CONTRAST = 6.0  # standard deviation over the lit blocks, grey levels


def cells_of(luma: UInt8) -> Cells:
    """Means of a brightness plane.

    Args:
        luma: uint8 ``(height, width)``.

    Returns:
        float32 ``(135, 240)``, 0 to 255.
    """
    import cv2

    rows = luma[:: max(1, luma.shape[0] // ROWS_READ)]
    small: Any = cv2.resize(rows, CELLS_WH, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def block_means(cells: Cells) -> Blocks:
    """Means of 3 x 3 cells, float32 ``(45, 80)``."""
    import cv2

    means: Any = cv2.resize(cells, BLOCKS_WH, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32)


class Difference(NamedTuple):
    """How much each block of a frame differs from another one's, float32 ``(45, 80)`` each.

    Args:
        rms: root mean square over its cells, grey levels.
        mean: absolute difference of its means, grey levels; at most ``rms``.
    """

    rms: Blocks
    mean: Blocks


def difference(cells: Cells, others: Cells) -> Difference:
    """The difference of two frames under one gain for all blocks."""
    means, other_means = block_means(cells), block_means(others)
    gain = exposure(means, other_means)
    shift = np.float32(BLACK * (1 - gain))
    rest = cells - gain * others
    rest -= shift
    np.square(rest, out=rest)
    return Difference(np.sqrt(block_means(rest)), np.abs(means - gain * other_means - shift))


def exposure(means: Blocks, others: Blocks) -> float:
    """The gain that makes ``others`` into ``means``: the median over the lit blocks.

    The median holds while less than half of them show something else. It lies between 1 / 1.3 and
    1.3: what is beyond that is no adjustment any more, and is left to the differences. A picture
    without contrast tells no exposure from another wall: its gain is 1.
    """
    low, high = LIT
    lit = (others > low) & (others < high) & (means > low) & (means < high)
    if np.count_nonzero(lit) < LIT_SHARE * lit.size:
        return 1.0
    now, before = means[lit], others[lit]
    if before.std() < CONTRAST:
        return 1.0
    gain = float(np.median((now - BLACK) / (before - BLACK)))
    return min(max(gain, 1 / GAIN_AT_MOST), GAIN_AT_MOST)
