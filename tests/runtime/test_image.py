"""Pictures from everywhere become uint8 RGB, or an error that names the picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevlm.errors import ContractError, ImageError
from edgevlm.runtime.model import image as image_module
from edgevlm.runtime.model.image import load_image

RNG = np.random.default_rng(5)
PHOTO = RNG.integers(0, 256, (6, 9, 3), np.uint8)

# What a viewer does to the stored pixels for each EXIF orientation (EXIF 2.32, tag 0x0112).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def refused(given: Any, kind: type[Exception] = ImageError) -> str:
    """The one-line message with which a picture is refused."""
    with pytest.raises(kind) as caught:
        load_image(given)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_a_lossless_file_gives_back_its_pixels(tmp_path: Path, suffix: str):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(PHOTO).save(path, lossless=True)
    for form in (path, str(path), Image.open(path)):
        loaded = load_image(form)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, PHOTO)


def test_an_array_is_taken_as_it_is_and_not_copied():
    assert load_image(PHOTO) is PHOTO


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("as_file", [True, False])
def test_the_camera_orientation_is_applied_to_files_and_to_pil_images(
    tmp_path: Path, orientation: int, as_file: bool
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(PHOTO).save(path, exif=exif)
    loaded = load_image(path if as_file else Image.open(path))
    np.testing.assert_array_equal(loaded, UPRIGHT[orientation](PHOTO))


def test_a_16_bit_picture_keeps_its_range(tmp_path: Path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "deep.png")
    loaded = load_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(loaded, np.repeat(levels[:, :, None], 3, 2))


def test_a_16_bit_rgb_picture_keeps_its_range(tmp_path: Path):
    import cv2

    deep = PHOTO[..., ::-1].astype(np.uint16) * 257  # OpenCV writes BGR
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(load_image(tmp_path / "deep.png"), PHOTO)


def test_cmyk_is_converted(tmp_path: Path):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:, :, 1:3] = 255  # magenta and yellow ink: red
    Image.fromarray(inks, "CMYK").save(tmp_path / "print.jpg", quality=95)
    loaded = load_image(tmp_path / "print.jpg")
    assert loaded.shape == (8, 8, 3)
    assert np.abs(loaded.astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV", "LAB"])
def test_other_colour_spaces_are_converted_as_pillow_does(mode: str):
    picture = Image.fromarray(PHOTO).convert("L" if mode == "LAB" else mode)
    if mode == "LAB":
        picture = Image.merge("LAB", [picture] * 3)
    np.testing.assert_array_equal(load_image(picture), np.asarray(picture.convert("RGB")))


def test_grey_becomes_three_equal_channels():
    grey = PHOTO[:, :, 0]
    np.testing.assert_array_equal(
        load_image(Image.fromarray(grey)), np.repeat(grey[:, :, None], 3, 2)
    )


def test_a_single_pixel_is_a_picture(tmp_path: Path):
    Image.new("RGB", (1, 1), (7, 8, 9)).save(tmp_path / "dot.png")
    np.testing.assert_array_equal(load_image(tmp_path / "dot.png"), [[[7, 8, 9]]])


def test_of_an_animation_the_first_frame_counts(tmp_path: Path):
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_image(tmp_path / "a.gif"), np.full((4, 4, 3), (255, 0, 0)))


@pytest.mark.parametrize("alpha", [0, 1, 100, 254, 255])
def test_alpha_is_dropped_or_laid_over_white(alpha: int):
    pixels = np.dstack([PHOTO, np.full(PHOTO.shape[:2], alpha, np.uint8)])
    picture = Image.fromarray(pixels, "RGBA")
    np.testing.assert_array_equal(load_image(picture), PHOTO)
    over_white = 255 - (255 - PHOTO.astype(float)) * alpha / 255
    assert np.abs(load_image(picture, "white") - over_white).max() <= 1


def test_alpha_of_a_grey_picture_is_dropped_or_laid_over_white():
    picture = Image.merge("LA", [Image.new("L", (3, 2), 60), Image.new("L", (3, 2), 0)])
    assert (load_image(picture) == 60).all()
    assert (load_image(picture, "white") == 255).all()


def test_a_transparent_palette_colour_is_dropped_or_laid_over_white(tmp_path: Path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])
    picture.save(tmp_path / "icon.png", transparency=0)
    loaded = load_image(tmp_path / "icon.png")
    np.testing.assert_array_equal(loaded, [[[10, 20, 30], [200, 100, 50]]])
    white = load_image(tmp_path / "icon.png", "white")
    np.testing.assert_array_equal(white, [[[255, 255, 255], [200, 100, 50]]])


def test_a_float_picture_is_refused_because_its_range_is_unknown(tmp_path: Path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "depth.tiff")
    assert "depth.tiff holds float pixels" in refused(tmp_path / "depth.tiff")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not a picture", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "cannot be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be decoded"),
    ],
    ids=["0 bytes", "text", "png head", "jpeg head", "svg"],
)
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "broken.png").write_bytes(content)
    text = refused(tmp_path / "broken.png")
    assert "broken.png" in text
    assert message in text


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_picture_is_refused_and_not_half_shown(tmp_path: Path, form: str):
    path = tmp_path / "cut"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(path, form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cut cannot be decoded" in refused(path)


def test_a_truncated_pil_image_is_refused_too():
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    lazy = Image.open(io.BytesIO(file.getvalue()[: file.tell() // 2]))
    assert "the image cannot be decoded" in refused(lazy)


def test_a_closed_pil_image_is_refused():
    picture = Image.fromarray(PHOTO)
    picture.close()
    assert "the image cannot be decoded" in refused(picture)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path):
    assert "gone.jpg does not exist or is not a file" in refused(tmp_path / "gone.jpg")
    assert "is not a file" in refused(tmp_path)
    assert "is not a file" in refused(str(tmp_path))


def test_a_file_over_the_byte_cap_is_not_opened(tmp_path: Path):
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.truncate(image_module.MAX_FILE_BYTES + 1)
    assert "the cap is" in refused(path)


@pytest.mark.parametrize("size", [(8001, 8000), (30_000, 30_000), (65_535, 65_535)])
def test_a_picture_over_the_pixel_cap_is_not_decoded(tmp_path: Path, size: tuple[int, int]):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )  # fmt: skip
    text = refused(path)
    assert "pixels" in text
    assert "bomb.png" in text


def test_the_pixel_cap_counts_for_arrays_and_pil_images_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_module, "MAX_PIXELS", 53)  # the photo has 54
    assert "more than 53 pixels" in refused(PHOTO)
    assert "the cap is 53" in refused(Image.fromarray(PHOTO))
    monkeypatch.setattr(image_module, "MAX_PIXELS", 54)
    load_image(PHOTO)
    load_image(Image.fromarray(PHOTO))


@pytest.mark.parametrize(
    "array",
    [
        PHOTO.astype(np.float32), PHOTO.astype(np.int16), PHOTO[:, :, 0], PHOTO[:, :, :2],
        np.dstack([PHOTO, PHOTO[:, :, 0]]), PHOTO.transpose(2, 0, 1), PHOTO[None],
        PHOTO[:0], PHOTO[:, :0], np.zeros((), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)  # fmt: skip
def test_an_array_of_another_kind_is_refused_with_what_came(array: np.ndarray):
    text = refused(array, ContractError)
    assert "uint8 RGB (height, width, 3)" in text
    assert f"got {array.dtype} {array.shape}" in text


@pytest.mark.parametrize(
    ("given", "name"),
    [(None, "NoneType"), (7, "int"), (b"\x89PNG", "bytes"), ([1, 2], "list"),
     (io.BytesIO(b""), "BytesIO"), (PHOTO.tolist(), "list"), (object(), "object")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_anything_else_is_refused_and_its_type_named(given: Any, name: str):
    assert refused(given, ContractError).endswith(f"got {name}")
