"""Pixel formats of cameras and robots against OpenCV, PyAV and arithmetic."""

from __future__ import annotations

from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.errors import ImageError
from edgevlm.runtime.stream.sources.raw_pixels import planar
from edgevlm.runtime.stream.sources.ros_image import IMAGE, LAYOUTS, pixels_of
from tests.runtime.sources.conftest import picture

W, H = 48, 32
RGB = cv2.GaussianBlur(picture(0, (W, H)), (0, 0), 3)


def convert(encoding: str, array: np.ndarray, padding: int = 0, big_endian: int = 0, width=W):
    """Pixels of a ROS image with these rows, ``padding`` bytes behind each."""
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(array.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=137)
    message = SimpleNamespace(
        encoding=encoding, width=width, height=H, step=padded.shape[1],
        is_bigendian=big_endian, data=padded.tobytes(),
    )  # fmt: skip
    pixels, name = pixels_of(message, IMAGE)
    assert name == encoding
    assert pixels.size_wh == (width, H)
    return pixels


ALPHA = np.full((H, W, 1), 99, np.uint8)
COLOURS = {
    "rgb8": RGB,
    "bgr8": RGB[:, :, ::-1],
    "8UC3": RGB[:, :, ::-1],
    "rgba8": np.concatenate([RGB, ALPHA], 2),
    "bgra8": np.concatenate([RGB[:, :, ::-1], ALPHA], 2),
    "8UC4": np.concatenate([RGB[:, :, ::-1], ALPHA], 2),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", COLOURS)
def test_colour_in_8_bits(encoding, padding):
    pixels = convert(encoding, COLOURS[encoding], padding)
    np.testing.assert_array_equal(pixels.rgb(), RGB)
    grey = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
    assert np.abs(pixels.luma().astype(int) - grey).max() <= 1


@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16"])
def test_colour_in_16_bits_keeps_its_high_byte(encoding, big_endian):
    values = RGB.astype(np.uint16) * 256 + 200
    values = np.concatenate([values, values[:, :, :1]], 2) if "a" in encoding else values
    if encoding.startswith("bgr"):
        values[:, :, :3] = values[:, :, 2::-1]
    stored = values.astype(">u2" if big_endian else "<u2")
    pixels = convert(encoding, stored, 6, big_endian)
    np.testing.assert_array_equal(pixels.rgb(), RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "mono16"])
@pytest.mark.parametrize("big_endian", [0, 1])
def test_brightness(encoding, big_endian):
    grey = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
    stored = grey
    if encoding == "mono16":
        stored = (grey.astype(np.uint16) * 256 + 77).astype(">u2" if big_endian else "<u2")
    pixels = convert(encoding, stored, 2, big_endian)
    np.testing.assert_array_equal(pixels.luma(), grey)
    np.testing.assert_array_equal(pixels.rgb(), np.dstack([grey] * 3))


def mosaic(order: str) -> np.ndarray:
    """What a sensor with this filter sees of RGB: by the definition of the pattern."""
    channel = {"r": 0, "g": 1, "b": 2}
    seen = np.zeros((H, W), np.uint8)
    for place, letter in enumerate(order):
        y, x = divmod(place, 2)
        seen[y::2, x::2] = RGB[y::2, x::2, channel[letter]]
    return seen


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_mosaics_of_all_four_filters(order, bits):
    seen = mosaic(order)
    stored = seen if bits == 8 else (seen.astype(np.uint16) * 256 + 33).astype("<u2")
    pixels = convert(f"bayer_{order}{bits}", stored, 4)
    inner = slice(2, -2), slice(2, -2)
    # The scene is smooth, so that interpolation is near the truth; a wrong order is far from it.
    wrong = np.abs(RGB[inner].astype(int) - RGB[inner][:, :, ::-1]).mean()
    off = np.abs(pixels.rgb()[inner].astype(int) - RGB[inner]).mean()
    assert off < 6
    assert off < wrong / 4
    frame = av.VideoFrame(W, H, f"bayer_{order}8")  # libav interpolates too
    rows = np.zeros((H, frame.planes[0].line_size), np.uint8)
    rows[:, :W] = seen
    frame.planes[0].update(rows.tobytes())
    theirs = frame.to_ndarray(format="rgb24")
    assert np.abs(pixels.rgb()[inner].astype(int) - theirs[inner]).mean() < 4
    grey = cv2.cvtColor(pixels.rgb(), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(pixels.luma(), grey)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_is_light_where_it_is_near_and_black_where_it_is_unknown(encoding):
    millimetres = np.linspace(100, 15_000, W * H).reshape(H, W)
    millimetres[0, 0], millimetres[1, 1] = 0, 10_000
    if encoding == "16UC1":
        stored = millimetres.astype("<u2")
    else:
        stored = (millimetres / 1000).astype("<f4")
        stored[2, 0], stored[2, 1] = np.nan, np.inf
    pixels = convert(encoding, stored, 8)
    shown = pixels.luma().astype(int)
    assert shown[0, 0] == 0
    if encoding == "32FC1":
        assert (shown[2, 0], shown[2, 1]) == (0, 0)
    assert shown[1, 1] == 1
    assert (shown[millimetres > 10_000] == 1).all()
    near = (millimetres > 0) & (millimetres < 10_000)
    near[2, :2] = False
    expected = 255 - 254 * millimetres[near] / 10_000
    assert np.abs(shown[near] - expected).max() <= 1
    np.testing.assert_array_equal(pixels.rgb()[:, :, 1], shown)


def yuv(name: str) -> list[np.ndarray]:
    """RGB in a YUV format, planes as rows, by libav."""
    frame = av.VideoFrame.from_ndarray(RGB, format="rgb24").reformat(format=name)
    return [
        np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : _row(name, n)]
        for n, p in enumerate(frame.planes)
    ]


def _row(name: str, plane: int) -> int:
    if name in ("yuyv422", "uyvy422"):
        return 2 * W
    return W if plane == 0 or name.startswith("nv") else W // 2


@pytest.mark.parametrize(
    ("encoding", "name", "code"),
    [
        ("yuv422", "uyvy422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", "uyvy422", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422_yuy2", "yuyv422", cv2.COLOR_YUV2RGB_YUY2),
        ("yuyv", "yuyv422", cv2.COLOR_YUV2RGB_YUY2),
        ("nv12", "nv12", cv2.COLOR_YUV2RGB_NV12),
        ("nv21", "nv21", cv2.COLOR_YUV2RGB_NV21),
    ],
)
def test_yuv_against_opencv(encoding, name, code):
    planes = yuv(name)
    stored = np.concatenate(planes)
    step = stored.shape[1]
    message = SimpleNamespace(encoding=encoding, width=W, height=H, step=step, is_bigendian=0,
                              data=stored.tobytes())  # fmt: skip
    pixels, _ = pixels_of(message, IMAGE)
    packed = stored.reshape(H, W, 2) if len(planes) == 1 else stored
    theirs = cv2.cvtColor(packed, code)
    assert np.abs(pixels.rgb().astype(int) - theirs).mean() < 4
    assert np.abs(pixels.rgb().astype(int) - RGB).mean() < 6
    y = planes[0] if len(planes) == 2 else packed[:, :, int(name == "uyvy422")]
    if len(planes) == 2:
        np.testing.assert_array_equal(pixels.luma(), y)
    else:
        assert pixels.luma().shape == y.shape


def test_the_matrix_of_high_definition_is_another():
    frame = av.VideoFrame.from_ndarray(RGB, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
    planes = [
        (np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : W if n == 0 else W // 2],)
        for n, p in enumerate(frame.planes)
    ]
    given = [(np.ascontiguousarray(p).tobytes(), p.shape[1]) for (p,) in planes]
    right = planar(given, "yuv420p", (W, H), bt709=True).rgb().astype(int)
    wrong = planar(given, "yuv420p", (W, H)).rgb().astype(int)
    assert np.abs(right - RGB).mean() < 6
    assert np.abs(wrong - RGB).mean() > np.abs(right - RGB).mean() + 2


@pytest.mark.parametrize(
    ("size_wh", "planes"),
    [
        ((48, 32), [(bytes(48 * 32), 48), (bytes(48 * 15), 48)]),
        ((48, 32), [(bytes(48 * 32), 47), (bytes(48 * 16), 48)]),
        ((47, 32), [(bytes(48 * 32), 48), (bytes(48 * 16), 48)]),
        ((0, 0), [(b"", 0), (b"", 0)]),
    ],
)
def test_planes_that_do_not_fit_are_refused(size_wh, planes):
    with pytest.raises(ImageError):
        planar(planes, "nv12", size_wh)


def test_a_mosaic_of_one_pixel_is_refused():
    message = SimpleNamespace(encoding="bayer_rggb8", width=1, height=1, step=1, is_bigendian=0,
                              data=b"1")  # fmt: skip
    with pytest.raises(ImageError, match="2x2"):
        pixels_of(message, IMAGE)


def test_every_encoding_that_is_read_is_tested_here():
    yuv_ones = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"}
    mosaics = {f"bayer_{o}{b}" for o in ("rggb", "bggr", "gbrg", "grbg") for b in (8, 16)}
    others = {"rgb16", "bgr16", "rgba16", "bgra16", "mono8", "8UC1", "mono16", "16UC1", "32FC1"}
    assert set(LAYOUTS) == {*COLOURS, *yuv_ones, *mosaics, *others}


sizes = st.one_of(st.integers(0, 70), st.sampled_from([1, 65535, 2**16, 2**31, 2**32 - 1]))


@settings(max_examples=400, deadline=None)
@given(
    encoding=st.one_of(st.sampled_from(sorted(LAYOUTS)), st.text(max_size=5)),
    width=sizes,
    height=sizes,
    step=sizes,
    big_endian=st.integers(0, 255),
    data=st.binary(max_size=20_000),
)
def test_whatever_a_message_says_it_is_a_picture_or_an_image_error(
    encoding, width, height, step, big_endian, data
):
    message = SimpleNamespace(
        encoding=encoding, width=width, height=height, step=step, is_bigendian=big_endian, data=data
    )
    try:
        pixels, _ = pixels_of(message, IMAGE)
    except ImageError:
        return
    assert pixels.rgb().shape == (height, width, 3)
    assert pixels.luma().shape == (height, width)


@pytest.mark.parametrize("size_wh", [(1, 1), (65535, 1), (1, 65535), (3, 5)])
def test_the_smallest_and_the_longest_pictures(size_wh):
    width, height = size_wh
    for encoding, channels in (("rgb8", 3), ("mono8", 1), ("mono16", 2), ("32FC1", 4)):
        message = SimpleNamespace(
            encoding=encoding, width=width, height=height, step=width * channels, is_bigendian=0,
            data=bytes(width * channels * height),
        )  # fmt: skip
        pixels, _ = pixels_of(message, IMAGE)
        assert pixels.rgb().shape == (height, width, 3)
