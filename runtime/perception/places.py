"""Where in a picture patches look like a thing: peaks of a map, and the cells that go with each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.runtime.model.matching import Matcher, Patches
from edgevlm.runtime.perception.seen import Seen
from edgevlm.runtime.perception.things import Thing
from edgevlm.runtime.perception.windows import Box
from edgevlm.tensors import Float32

_BLUR = 0.8  # cells: a peak is of more than one
_COMMON = 0.6  # where nothing beside the thing was shown, so many patches are not of it


@dataclass(frozen=True, slots=True)
class Place:
    """Touching cells that look like a thing.

    Args:
        box_xyxy: in pixels of the picture that was seen.
        peak: by how much more like the thing than like what lay beside it, in cosines.
    """

    box_xyxy: Box
    peak: float


def contrast(seen: Seen, thing: Thing, matcher: Matcher, beside: Patches | None = None) -> Float32:
    """How much more every patch is like the thing than like what lies beside it.

    Args:
        seen: the picture.
        thing: what was taught.
        matcher: holds patches against banks.
        beside: patches that are not of the thing, for things of which only crops were shown.

    Returns:
        float32 ``seen.grid``, differences of cosines; NaN beside the picture.
    """
    front, _ = matcher.match(seen.patches, thing.front)
    back = thing.back if thing.back is not None else beside
    if back is not None and len(back):
        other, _ = matcher.match(seen.patches, back)
    else:
        other = np.full_like(front, np.quantile(front, _COMMON))
    return seen.spread(front - other)


def places(seen: Seen, values: Float32, count: int, share: float) -> list[Place]:
    """The highest peaks of a map, each with the cells around it.

    Args:
        seen: the picture.
        values: from ``contrast``.
        count: at most so many.
        share: cells over this share of a peak belong to it, as far as they touch.
    """
    import cv2

    smooth = cv2.GaussianBlur(np.nan_to_num(values, nan=-1.0), (0, 0), _BLUR)
    left = smooth.copy()
    found: list[Place] = []
    for _ in range(count):
        row, column = (int(n) for n in np.unravel_index(left.argmax(), left.shape))
        peak = float(left[row, column])
        if peak <= 0 and found:
            break
        over = (smooth >= max(share * peak, 0.0)).astype(np.uint8)
        over[row, column] = 1
        _, numbers = cv2.connectedComponents(over, connectivity=8)
        rows, columns = np.nonzero(numbers == numbers[row, column])
        cells = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        x0, y0, x1, y1 = (float(edge) for edge in seen.boxes(cells.astype(np.int64))[0])
        found.append(Place((x0, y0, x1, y1), peak))
        left[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = -np.inf
    return found


def outside(seen: Seen, box_xyxy: Box, margin: float) -> Patches:
    """Patches whose middle lies beside a box that was widened by a share of its sides."""
    x0, y0, x1, y1 = box_xyxy
    wide, tall = margin * (x1 - x0), margin * (y1 - y0)
    x, y = middles(seen)
    beside = (x < x0 - wide) | (x > x1 + wide) | (y < y0 - tall) | (y > y1 + tall)
    return seen.patches.chosen(beside)


def inside(seen: Seen, box_xyxy: Box) -> Patches:
    """Patches whose middle lies in a box."""
    x0, y0, x1, y1 = box_xyxy
    x, y = middles(seen)
    return seen.patches.chosen((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))


def middles(seen: Seen) -> tuple[Float32, Float32]:
    """Columns and rows of the patches' middles, in pixels of the picture."""
    cells = seen.patches.places[:, ::-1]
    boxes = seen.boxes(np.concatenate([cells, cells + 1], axis=1))
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return x.astype(np.float32), y.astype(np.float32)
