"""Pictures out of GStreamer's buffers."""

from __future__ import annotations

from typing import Any

from edgevlm.errors import ImageError
from edgevlm.frame import Pixels
from edgevlm.runtime.stream.sources.raw_pixels import Layout, interleaved, planar

PLANAR = {"NV12": "nv12", "NV21": "nv21", "I420": "yuv420p", "YUY2": "yuyv422", "UYVY": "uyvy422"}
PLANES = {"nv12": 2, "nv21": 2, "yuv420p": 3}
LAYOUTS = {
    "RGB": Layout("colour", 8, "rgb"),
    "BGR": Layout("colour", 8, "bgr"),
    "RGBA": Layout("colour", 8, "rgba"),
    "BGRA": Layout("colour", 8, "bgra"),
    "RGBx": Layout("colour", 8, "rgbx"),
    "BGRx": Layout("colour", 8, "bgrx"),
    "GRAY8": Layout("grey", 8, "y"),
    "GRAY16_LE": Layout("grey", 16, "y"),
    "GRAY16_BE": Layout("grey", 16, "y"),
}
BAYER = ("rggb", "bggr", "gbrg", "grbg")
CAPS = (
    f"video/x-raw,format={{{','.join([*PLANAR, *LAYOUTS])}}}; "
    f"video/x-bayer,format={{{','.join(BAYER)}}}"
)


def pixels_of(video: Any, sample: Any) -> tuple[Pixels, str]:
    """The picture of a sample, copied out of it, and the name of its format.

    Args:
        video: the module ``GstVideo``.
        sample: a ``Gst.Sample`` of raw video or of a mosaic.

    Raises:
        ImageError: a format that is not known, or sizes that do not fit.
    """
    buffer, caps = sample.get_buffer(), sample.get_caps()
    data = memoryview(buffer.extract_dup(0, buffer.get_size()))
    about = caps.get_structure(0)
    if about.get_name() == "video/x-bayer":
        size_wh = about.get_value("width"), about.get_value("height")
        order = about.get_value("format")
        step = -(-size_wh[0] // 4) * 4
        return interleaved(data, Layout("bayer", 8, order), size_wh, step), f"bayer {order}"
    info = video.VideoInfo.new_from_caps(caps)
    meta = video.buffer_get_video_meta(buffer)
    strides, offsets = (info.stride, info.offset) if meta is None else (meta.stride, meta.offset)
    name, size_wh = info.finfo.name, (info.width, info.height)
    if (layout := LAYOUTS.get(name)) is not None:
        big_endian = name.endswith("_BE")
        return interleaved(data[offsets[0] :], layout, size_wh, strides[0], big_endian), name
    if (libav := PLANAR.get(name)) is None:
        raise ImageError(f"appsink gave {name}; known are {', '.join([*PLANAR, *LAYOUTS])}")
    planes = [(data[offsets[n] :], strides[n]) for n in range(PLANES.get(libav, 1))]
    bt709 = info.colorimetry.matrix == video.VideoColorMatrix.BT709
    full_range = int(info.colorimetry.range) == 1  # GST_VIDEO_COLOR_RANGE_0_255
    return planar(planes, libav, size_wh, bt709=bt709, full_range=full_range), name
