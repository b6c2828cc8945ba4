"""A picture that is drawn shape by shape, and that knows which pixel belongs to what."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgevlm.colour import colour_name
from edgevlm.export.nano_data.composition import box_of
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import SeenThing
from edgevlm.frame import UInt8

_FINER = 2  # drawn at so many times the size, then averaged: smooth edges
_SHIFT = 4  # OpenCV takes coordinates in sixteenths of a pixel
Rgb = tuple[int, int, int]
Points = NDArray[np.float64] | Sequence[tuple[float, float]]
NOBODY = -1


class Canvas:
    """Shapes over a background, later ones in front.

    Args:
        background_rgb: uint8 ``(height, width, 3)``; stays as it is.

    Coordinates and lengths are in pixels of the background. ``owner`` of a shape is the number of
    the thing that its pixels belong to; with None they stay with whom they belong to, as a
    scratch belongs to the scratched.
    """

    def __init__(self, background_rgb: UInt8) -> None:
        size = background_rgb.shape[1] * _FINER, background_rgb.shape[0] * _FINER
        self._image = cv2.resize(background_rgb, size, interpolation=cv2.INTER_LINEAR)
        self._owner = np.full(self._image.shape[:2], NOBODY, np.int16)

    def circle(
        self,
        centre_xy: tuple[float, float],
        radius: float,
        rgb: Rgb,
        owner: int | None = None,
        width: float | None = None,
    ) -> None:
        """A disc, or with ``width`` a ring whose middle line has the radius."""
        centre, r = _fixed([centre_xy])[0], max(1, round(radius * _FINER * (1 << _SHIFT)))
        thickness = cv2.FILLED if width is None else _thick(width)
        middle = int(centre[0]), int(centre[1])
        cv2.circle(self._image, middle, r, rgb, thickness, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.circle(self._owner, middle, r, owner, thickness, cv2.LINE_8, _SHIFT)

    def polygon(self, points_xy: Points, rgb: Rgb, owner: int | None = None) -> None:
        """The inside of a closed line."""
        points = [_fixed(points_xy)]
        cv2.fillPoly(self._image, points, rgb, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.fillPoly(self._owner, points, owner, cv2.LINE_8, _SHIFT)

    def line(
        self,
        points_xy: Points,
        width: float,
        rgb: Rgb,
        owner: int | None = None,
        *,
        closed: bool = False,
    ) -> None:
        """A line through points."""
        points, thickness = [_fixed(points_xy)], _thick(width)
        cv2.polylines(self._image, points, closed, rgb, thickness, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.polylines(self._owner, points, closed, owner, thickness, cv2.LINE_8, _SHIFT)

    def paste(
        self, coverage: UInt8, centre_xy: tuple[float, float], rgb: Rgb, owner: int | None = None
    ) -> None:
        """One colour through a mask; what reaches outside is cut off.

        Args:
            coverage: 0 to 255, uint8 ``(height, width)``, ``scale`` times as fine as the picture.
            centre_xy: where its middle goes.
            rgb: the colour.
            owner: of what it covers by more than half.
        """
        height, width = coverage.shape
        x = round(centre_xy[0] * _FINER - width / 2)
        y = round(centre_xy[1] * _FINER - height / 2)
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(self._image.shape[1], x + width), min(self._image.shape[0], y + height)
        if x0 >= x1 or y0 >= y1:
            return
        coverage = coverage[y0 - y : y1 - y, x0 - x : x1 - x]
        part = self._image[y0:y1, x0:x1]
        alpha = coverage[..., None].astype(np.float32) / 255
        part[:] = np.rint(part + alpha * (np.array(rgb, np.float32) - part))
        if owner is not None:
            self._owner[y0:y1, x0:x1][coverage > 127] = owner

    @property
    def scale(self) -> int:
        """Pixels of the drawing per pixel of the picture."""
        return _FINER

    def finish(self) -> tuple[UInt8, NDArray[np.int16]]:
        """The picture, uint8 RGB, and for each pixel the number of its owner or ``NOBODY``."""
        height, width = self._owner.shape[0] // _FINER, self._owner.shape[1] // _FINER
        image = cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA)
        return image, self._owner[_FINER // 2 :: _FINER, _FINER // 2 :: _FINER].copy()


def seen_thing(
    image_rgb: UInt8,
    owners: NDArray[np.int16],
    owner: int,
    name: str,
    group: str,
) -> SeenThing | None:
    """What can be seen of one owner; None if nothing can."""
    mask = owners == owner
    box = box_of(mask)
    if box is None:
        return None
    return SeenThing(
        name=name,
        also=also_called(name),
        group=group,
        colour=colour_name(image_rgb, mask),
        box_xyxy=box,
        mask=mask,
    )


def turned(points_xy: Points, degrees: float, about_xy: tuple[float, float]) -> NDArray[np.float64]:
    """Points turned clockwise, as the picture is seen, about one of them."""
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    about = np.array(about_xy)
    result: NDArray[np.float64] = (np.asarray(points_xy, np.float64) - about) @ turn + about
    return result


def _fixed(points_xy: Points) -> NDArray[np.int32]:
    """Points of the picture in OpenCV's units of the finer drawing; pixel centres are integers."""
    points = (np.asarray(points_xy, np.float64) + 0.5) * _FINER - 0.5
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def _thick(width: float) -> int:
    return max(1, round(width * _FINER))
