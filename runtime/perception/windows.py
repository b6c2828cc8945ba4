"""Parts of a picture looked at by themselves, and what one look makes of a part as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.abilities import gives
from edgevlm.bundle.manifest import Manifest
from edgevlm.errors import ContractError
from edgevlm.runtime.model.vision import Encoded
from edgevlm.tensors import Float32

UInt8 = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Window = tuple[int, int, int, int]
SIDE_AT_LEAST = 8.0  # pixels of a box: less shows nothing
WHOLE = ("features", "embedding")  # outputs that tell things apart; the first that there is


def window(box_xyxy: Box, times: float, size: tuple[int, int], least: float = 0.0) -> Window:
    """A square around a box, cut off at the picture's edges.

    Args:
        box_xyxy: left, top, right, bottom, in pixels of the picture.
        times: its side, in longer sides of the box.
        size: height and width of the picture.
        least: pixels that the side has at least.

    Returns:
        left, top, right, bottom in whole pixels; at least one pixel each way.
    """
    left, top, right, bottom = box_xyxy
    half = max(max(right - left, bottom - top) * times, least) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    x0, y0 = max(0, int(x - half)), max(0, int(y - half))
    x1, y1 = min(size[1], int(np.ceil(x + half))), min(size[0], int(np.ceil(y + half)))
    return min(x0, size[1] - 1), min(y0, size[0] - 1), max(x1, x0 + 1), max(y1, y0 + 1)


def cut(picture: UInt8, part: Window) -> UInt8:
    """The part of a picture, uint8 RGB."""
    left, top, right, bottom = part
    return np.ascontiguousarray(picture[top:bottom, left:right])


def checked_box(box: Sequence[float], size: tuple[int, int], said: str) -> Box:
    """A box that lies in its picture.

    Args:
        box: left, top, right, bottom, in pixels.
        size: height and width of the picture.
        said: what it is called.

    Raises:
        ContractError: it does not, is smaller than ``SIDE_AT_LEAST``, or is no box.
    """
    height, width = size
    try:
        x0, y0, x1, y1 = (float(edge) for edge in box)
    except (TypeError, ValueError) as exc:
        raise ContractError(f"{said} is {box!r:.80}: wanted left, top, right, bottom") from exc
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ContractError(
            f"{said}, {x0:g},{y0:g} to {x1:g},{y1:g}, does not lie in its picture of "
            f"{width}x{height}"
        )
    if min(x1 - x0, y1 - y0) < SIDE_AT_LEAST:
        raise ContractError(
            f"{said} is {x1 - x0:g}x{y1 - y0:g} pixels: wanted at least {SIDE_AT_LEAST:g} each way"
        )
    return x0, y0, x1, y1


def parts(size: tuple[int, int]) -> list[Window]:
    """Four parts that overlap by a sixth of the picture's side, for things that are small in it."""
    height, width = size
    tall, wide = max(1, round(height * _PART)), max(1, round(width * _PART))
    return [
        (x, y, x + wide, y + tall)
        for y in sorted({0, height - tall})
        for x in sorted({0, width - wide})
    ]


def whole_output(manifest: Manifest) -> str:
    """The output of the vision graph that a part is told by.

    Raises:
        ContractError: there is none.
    """
    there = [name for name in WHOLE if gives(manifest, name)]
    if not there:
        raise ContractError(
            f"{manifest.name} gives neither {' nor '.join(WHOLE)} of a picture, by which things "
            "are told apart: export it again"
        )
    return there[0]


def vector(encoded: Encoded, output: str) -> Float32:
    """One look as a vector of length 1, float32 ``(width,)``.

    Feature maps are averaged over their cells, and roots are taken: a few strong features would
    drown the others (Hellinger's kernel).

    Source: Three things everyone should know to improve object retrieval (Arandjelovic and
    Zisserman, 2012), section 3.
    """
    found = encoded.outputs[output].astype(np.float32)
    if found.ndim == 4:
        found = np.sqrt(np.maximum(found[0].mean(axis=(1, 2)), 0))
    flat = found.reshape(-1)
    unit: Float32 = (flat / max(float(np.linalg.norm(flat)), 1e-12)).astype(np.float32)
    return unit


_PART = 0.58
