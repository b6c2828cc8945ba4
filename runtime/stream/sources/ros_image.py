"""Images of ROS messages: ``sensor_msgs/Image`` and ``CompressedImage``.

Encodings are those of ``sensor_msgs/image_encodings.hpp``; bytes are read as ``cv_bridge`` does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevlm.errors import ImageError
from edgevlm.frame import Pixels
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.stream.sources.pixels import CvPixels
from edgevlm.runtime.stream.sources.raw_pixels import Layout, interleaved, planar

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
DEPTH_HEADER = 12  # bytes of compressed_depth_image_transport in front of its PNG

LAYOUTS = {
    **{name: Layout("colour", 8, name[:-1]) for name in ("rgb8", "bgr8", "rgba8", "bgra8")},
    **{name: Layout("colour", 16, name[:-2]) for name in ("rgb16", "bgr16", "rgba16", "bgra16")},
    **{
        f"bayer_{order}{bits}": Layout("bayer", bits, order)
        for order in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
    "mono8": Layout("grey", 8, "y"),
    "8UC1": Layout("grey", 8, "y"),
    "mono16": Layout("grey", 16, "y"),
    "8UC3": Layout("colour", 8, "bgr"),
    "8UC4": Layout("colour", 8, "bgra"),
    "16UC1": Layout("depth", 16, "d"),
    "32FC1": Layout("depth", 32, "d"),
    "yuv422": Layout("yuv", 8, "uyvy422"),
    "uyvy": Layout("yuv", 8, "uyvy422"),
    "yuv422_yuy2": Layout("yuv", 8, "yuyv422"),
    "yuyv": Layout("yuv", 8, "yuyv422"),
    "nv12": Layout("yuv", 8, "nv12"),
    "nv21": Layout("yuv", 8, "nv21"),
}


@dataclass(frozen=True, slots=True)
class Header:
    """Where and when a picture was taken; ``stamp_ns`` is None where the header says nothing."""

    stamp_ns: int | None
    frame_id: str | None


def header_of(message: Any) -> Header:
    """The header of a message of ROS 1, of ROS 2 or of ``rclpy``."""
    stamp = message.header.stamp
    nanoseconds = int(getattr(stamp, "nanosec", getattr(stamp, "nsec", 0)))
    stamp_ns = int(stamp.sec) * 1_000_000_000 + nanoseconds
    return Header(stamp_ns if stamp_ns > 0 else None, str(message.header.frame_id) or None)


def pixels_of(message: Any, type_name: str) -> tuple[Pixels, str]:
    """The picture of a message, and the name of its encoding.

    Raises:
        ImageError: an unknown encoding, sizes that do not fit, or data that cannot be decoded.
    """
    if type_name == COMPRESSED:
        return _compressed(message)
    encoding = str(message.encoding)
    if (layout := LAYOUTS.get(encoding)) is None:
        raise ImageError(f"unknown encoding {encoding!r}; known are {', '.join(LAYOUTS)}")
    size_wh = int(message.width), int(message.height)
    step = int(message.step)
    if layout.kind != "yuv":
        big_endian = bool(message.is_bigendian)
        return interleaved(message.data, layout, size_wh, step, big_endian), encoding
    data = memoryview(message.data).cast("B")
    planes: list[tuple[Any, int]] = [(data, step)]
    if layout.order in ("nv12", "nv21"):
        planes = [(data[: step * size_wh[1]], step), (data[step * size_wh[1] :], step)]
    return planar(planes, layout.order, size_wh), encoding


def _compressed(message: Any) -> tuple[Pixels, str]:
    from PIL import Image

    said = str(message.format)
    data = bytes(message.data)
    if depth := "compressedDepth" in said:
        data = data[DEPTH_HEADER:]
    try:
        picture = Image.open(io.BytesIO(data))
    except Exception as exc:  # whatever the bytes provoke
        raise ImageError(f"a compressed image of format {said!r} cannot be decoded") from exc
    if depth and picture.mode.startswith("I"):
        values = np.asarray(picture).astype("<u2")
        layout = LAYOUTS["16UC1"]
        return interleaved(values, layout, picture.size, 2 * picture.width), said
    return CvPixels(load_image(picture), "rgb"), said
