"""Pixels of decoders and cameras, converted when somebody asks and not before."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from edgevlm.frame import UInt8
from edgevlm.runtime.stream.spill import Spilled

# Formats whose plane 0 is 8-bit brightness, one byte a pixel.
_LUMA_FIRST = re.compile(r"gray|yuvj?4(10|11|20|22|40|44)p|yuva4(20|22|44)p|nv(12|16|21|24|42)")


class CvPixels:
    """An interleaved 8-bit picture; brightness is BT.601, computed by OpenCV.

    Args:
        image: uint8 ``(height, width, 3)``.
        order: the order of its channels.
    """

    def __init__(self, image: UInt8, order: Literal["rgb", "bgr"]) -> None:
        self._image = image
        self._order = order

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.shape[1], self._image.shape[0]

    def rgb(self) -> UInt8:
        """The picture as uint8 RGB; a BGR one is converted once."""
        if self._order == "bgr":
            import cv2

            self._image, self._order = cv2.cvtColor(self._image, cv2.COLOR_BGR2RGB), "rgb"
        return self._image

    def luma(self) -> UInt8:
        """The brightness plane, without converting the picture first."""
        import cv2

        bgr = self._order == "bgr"
        gray: UInt8 = cv2.cvtColor(self._image, cv2.COLOR_BGR2GRAY if bgr else cv2.COLOR_RGB2GRAY)
        return gray

    def spill(self) -> Spilled:
        """The interleaved picture as it is."""
        image = np.ascontiguousarray(self._image)
        shape, order = image.shape, self._order

        def restore(data: bytes) -> CvPixels:
            return CvPixels(np.frombuffer(data, np.uint8).reshape(shape), order)

        return [image.data], restore


Turn = tuple[bool, bool, bool]  # swap the axes, then mirror left-right, then up-down


class Orientation:
    """How the frames of one stream are turned.

    PyAV's ``side_data`` ties a frame into a reference cycle, so that its picture lives on until
    the garbage collector comes by: it is read for the first frame, and again only when the
    rotation changes.
    """

    def __init__(self) -> None:
        self._rotation: int | None = None
        self._turn: Turn = (False, False, False)

    def of(self, picture: Any) -> Turn:
        """The turn of a frame."""
        if picture.rotation != self._rotation:
            self._rotation, self._turn = picture.rotation, _turn(picture)
        return self._turn


class VideoPixels:
    """A decoded video frame, turned the way its display matrix says.

    Args:
        picture: an ``av.VideoFrame``; kept, so that its memory outlives the views given out.
        turn: how it is turned, from ``Orientation``; read off the frame when None.
    """

    def __init__(self, picture: Any, turn: Turn | None = None) -> None:
        self._picture = picture
        self._turn = _turn(picture) if turn is None else turn
        self._rgb: UInt8 | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, as displayed."""
        w, h = self._picture.width, self._picture.height
        return (h, w) if self._turn[0] else (w, h)

    def rgb(self) -> UInt8:
        """The picture as uint8 RGB, converted once by the colour space the frame carries."""
        if self._rgb is None:
            from av.video.reformatter import VideoReformatter

            # A converter of its own: one that stays with the frame would keep its threads.
            image: Any = VideoReformatter().reformat(self._picture, format="rgb24").to_ndarray()
            self._rgb = np.ascontiguousarray(_turned(image, self._turn))
        return self._rgb

    def luma(self) -> UInt8:
        """The decoder's Y plane, range untouched and not copied; grey of any other format."""
        picture = self._picture
        plane = picture.planes[0] if _LUMA_FIRST.fullmatch(picture.format.name) else None
        # A negative line size means bottom-up rows: the buffer is not the picture then.
        if plane is not None and plane.line_size >= picture.width:
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            return _turned(rows[: picture.height, : picture.width], self._turn)
        return _turned(picture.to_ndarray(format="gray"), self._turn)

    def spill(self) -> Spilled | None:
        """The decoder's planes without their padding."""
        return spill_planes(self._picture, self._turn)


def spill_planes(picture: Any, turn: Turn) -> Spilled | None:
    """Planes of an ``av.VideoFrame``; None of one whose planes are not plain rows."""
    import av

    def blank() -> Any:
        return av.VideoFrame(picture.width, picture.height, picture.format.name)

    size_wh, name = (picture.width, picture.height), picture.format.name
    colours = picture.colorspace, picture.color_range
    planes = list(zip(picture.planes, blank().planes, strict=True))
    if name.startswith("pal") or any(p.line_size < q.line_size for p, q in planes):
        return None
    buffers = []
    for plane, slim in planes:
        rows = slim.buffer_size // slim.line_size
        whole = np.frombuffer(plane, np.uint8)[: rows * plane.line_size]
        cut = whole.reshape(rows, plane.line_size)[:, : slim.line_size]
        buffers.append(np.ascontiguousarray(cut).data)

    def restore(data: bytes) -> VideoPixels:
        frame = av.VideoFrame(*size_wh, name)
        frame.colorspace, frame.color_range = colours
        at = 0
        for plane in frame.planes:
            plane.update(data[at : at + plane.buffer_size])
            at += plane.buffer_size
        return VideoPixels(frame, turn)

    return buffers, restore


def _turn(picture: Any) -> Turn:
    """Of a frame's display matrix."""
    for entry in picture.side_data:
        if entry.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(n) for n in np.frombuffer(entry, np.int32)[:5])
            if abs(b) > abs(a):  # x' = c y, y' = b x
                return True, c < 0, b < 0
            return False, a < 0, d < 0
    return False, False, False


def _turned(image: UInt8, turn: Turn) -> UInt8:
    swap, mirror, flip = turn
    image = image.swapaxes(0, 1) if swap else image
    return image[:: -1 if flip else 1, :: -1 if mirror else 1]
