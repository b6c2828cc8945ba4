"""Raw pictures of sensors and robots: planes, mosaics and depth, converted on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import ImageError
from edgevlm.frame import Pixels, UInt8
from edgevlm.runtime.model.image import MAX_PIXELS
from edgevlm.runtime.stream.sources.pixels import CvPixels, VideoPixels
from edgevlm.runtime.stream.spill import Spilled

DEPTH_MM = 10_000  # what lies this far or farther is as dark as it gets

Kind = Literal["colour", "grey", "bayer", "depth", "yuv"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bytes of a picture are to be read.

    Args:
        kind: of its meaning.
        bits: of a sample, 8, 16 or 32 (a float, in metres).
        order: of its channels or of the first two rows of the mosaic, as ``rgba`` or ``rggb``;
            of ``yuv``, libav's name of the pixel format.
    """

    kind: Kind
    bits: int
    order: str


class GreyPixels:
    """A picture without colour.

    Args:
        luma: uint8 ``(height, width)``.
    """

    def __init__(self, luma: UInt8) -> None:
        self._luma = luma

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._luma.shape[1], self._luma.shape[0]

    def rgb(self) -> UInt8:
        """The brightness three times."""
        return np.repeat(self._luma[:, :, None], 3, axis=2)

    def luma(self) -> UInt8:
        """The plane itself."""
        return self._luma

    def spill(self) -> Spilled:
        """The plane."""
        luma = np.ascontiguousarray(self._luma)
        shape = luma.shape

        def restore(data: bytes) -> GreyPixels:
            return GreyPixels(np.frombuffer(data, np.uint8).reshape(shape))

        return [luma.data], restore


class BayerPixels:
    """A colour mosaic, interpolated by OpenCV (bilinear).

    Args:
        mosaic: uint8 ``(height, width)``.
        order: colours of the first two pixels of the first two rows, ``rggb``, ``bggr``,
            ``gbrg`` or ``grbg``.
    """

    def __init__(self, mosaic: UInt8, order: str) -> None:
        self._mosaic = mosaic
        self._order = order
        self._rgb: UInt8 | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._mosaic.shape[1], self._mosaic.shape[0]

    def rgb(self) -> UInt8:
        """The picture as uint8 RGB, interpolated once."""
        if self._rgb is None:
            import cv2

            # OpenCV names the second pixel of the second row first.
            name = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}[self._order]
            rgb: Any = cv2.cvtColor(self._mosaic, getattr(cv2, f"COLOR_Bayer{name}2RGB"))
            self._rgb = rgb
        return self._rgb

    def luma(self) -> UInt8:
        """BT.601 luma of the interpolated picture."""
        import cv2

        grey: UInt8 = cv2.cvtColor(self.rgb(), cv2.COLOR_RGB2GRAY)
        return grey

    def spill(self) -> Spilled:
        """The mosaic."""
        mosaic, order = np.ascontiguousarray(self._mosaic), self._order
        shape = mosaic.shape

        def restore(data: bytes) -> BayerPixels:
            return BayerPixels(np.frombuffer(data, np.uint8).reshape(shape), order)

        return [mosaic.data], restore


def interleaved(
    data: Any, layout: Layout, size_wh: tuple[int, int], step: int, big_endian: bool = False
) -> Pixels:
    """Pixels of rows of ``step`` bytes, of every kind but planar ones.

    16-bit brightness and colour keep their high byte: the full range is taken to be 65535. Depth
    is shown as brightness, near is light, 0 to 10 m; what is unknown (0, not finite) is black.

    Args:
        data: a buffer.
        layout: how to read it.
        size_wh: in pixels.
        step: bytes from row to row.
        big_endian: byte order of samples over 8 bits.

    Raises:
        ImageError: sizes that do not fit each other or the buffer.
    """
    width, height = size_wh
    channels = len(layout.order) if layout.kind == "colour" else 1
    row = width * channels * layout.bits // 8
    raw = np.frombuffer(data, np.uint8)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ImageError(f"a picture of {width}x{height} pixels is empty or too large")
    if step < row or raw.size < step * (height - 1) + row:
        raise ImageError(
            f"{width}x{height} pixels of {channels * layout.bits} bits need rows of {row} bytes "
            f"and {step} x {height} of them; got a step of {step} and {raw.size} bytes"
        )
    rows = np.lib.stride_tricks.as_strided(raw, (height, row), (step, 1), writeable=False)
    if layout.bits == 8:
        samples: NDArray[Any] = rows
    else:
        number = "f4" if layout.bits == 32 else "u2"
        samples = np.ascontiguousarray(rows).view(f"{'>' if big_endian else '<'}{number}")
    if layout.kind == "depth":
        return GreyPixels(_shown_depth(samples, 1.0 if layout.bits == 16 else 1000.0))
    image: UInt8 = samples if layout.bits == 8 else (samples >> 8).astype(np.uint8)
    if layout.kind == "bayer":
        if width < 2 or height < 2:
            raise ImageError(f"a mosaic needs 2x2 pixels, got {width}x{height}")
        return BayerPixels(np.ascontiguousarray(image), layout.order)
    if layout.kind == "grey":
        return GreyPixels(image)
    picked = image.reshape(height, width, channels)[:, :, :3]
    return CvPixels(np.ascontiguousarray(picked), "rgb" if layout.order[0] == "r" else "bgr")


def planar(
    planes: list[tuple[Any, int]],
    name: str,
    size_wh: tuple[int, int],
    *,
    bt709: bool = False,
    full_range: bool = False,
) -> VideoPixels:
    """Pixels of a YUV picture in libav's pixel format ``name``; colours convert as it does.

    Args:
        planes: a buffer and the bytes from row to row of each plane.
        name: as ``nv12``, ``yuv420p`` or ``yuyv422``.
        size_wh: in pixels.
        bt709: matrix, else BT.601.
        full_range: of the samples.

    Raises:
        ImageError: sizes that do not fit each other or a buffer.
    """
    import av

    width, height = size_wh
    if width < 2 or height < 2 or width % 2 or width * height > MAX_PIXELS:
        raise ImageError(f"a YUV picture of {width}x{height} pixels is too small, odd or too large")
    frame = av.VideoFrame(width, height, name)
    for number, (plane, (data, step)) in enumerate(zip(frame.planes, planes, strict=True)):
        rows = plane.buffer_size // plane.line_size
        needed = _row_bytes(name, number, width)
        raw = np.frombuffer(data, np.uint8)
        if step < needed or raw.size < step * (rows - 1) + needed:
            raise ImageError(
                f"plane {number} of {width}x{height} {name} needs {rows} rows of {needed} "
                f"bytes; got a step of {step} and {raw.size} bytes"
            )
        slim = np.zeros((rows, plane.line_size), np.uint8)
        slim[:, :needed] = np.lib.stride_tricks.as_strided(
            raw, (rows, needed), (step, 1), writeable=False
        )
        plane.update(slim.tobytes())
    frame.colorspace = 1 if bt709 else 5  # AVCOL_SPC_BT709, AVCOL_SPC_BT470BG
    frame.color_range = 2 if full_range else 1  # AVCOL_RANGE_JPEG, AVCOL_RANGE_MPEG
    return VideoPixels(frame)


def _row_bytes(name: str, plane: int, width: int) -> int:
    if name in ("yuyv422", "uyvy422"):
        return 2 * width
    return width if plane == 0 or name in ("nv12", "nv21") else width // 2


def _shown_depth(depth: NDArray[Any], millimetres: float) -> UInt8:
    distance = depth.astype(np.float32) * millimetres
    known = np.isfinite(distance) & (distance > 0)
    far = np.where(known, np.clip(distance, 0, DEPTH_MM), 0) / DEPTH_MM
    return np.where(known, np.rint(255 - 254 * far), 0).astype(np.uint8)
