"""Cells over a limit, put together into boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.runtime.perception.seen import Seen
from edgevlm.tensors import Float32

REGIONS_AT_MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Touching cells.

    Args:
        box_xyxy: left, top, right, bottom, in pixels of the picture.
        score: the largest value among its cells.
        cells: how many.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    cells: int


def regions(seen: Seen, values: Float32, over: float) -> tuple[Region, ...]:
    """Regions of a map, the one with the largest value first; the smallest are left out.

    Args:
        seen: the picture.
        values: float32 ``seen.grid``; NaN beside the picture.
        over: cells with more belong to a region.
    """
    import cv2

    mask = (np.nan_to_num(values, nan=-np.inf) > over).astype(np.uint8)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    left, top, width, height, area = (stats[1:, n] for n in range(5))
    boxes = seen.boxes(np.stack([left, top, left + width, top + height], 1).astype(np.int64))
    found = [
        Region(
            box_xyxy=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            score=float(np.nanmax(values[numbers == n])),
            cells=int(area[n - 1]),
        )
        for n, box in zip(range(1, count), boxes, strict=True)
    ]
    return tuple(sorted(found, key=lambda region: -region.score)[:REGIONS_AT_MOST])
