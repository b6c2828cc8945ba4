from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources.images import ImageSource


def save(path, value, size_wh=(8, 6), **options):
    Image.new("RGB", size_wh, (value, value, value)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for number in (10, 9, 1, 100, 2):
        save(tmp_path / f"shot{number}.png", number)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "inner").mkdir()
    save(tmp_path / "inner" / "shot3.png", 3)
    return tmp_path


def values(source):
    return [int(item.pixels.rgb()[0, 0, 0]) for item in source.frames()]


def test_images_come_in_natural_order(folder):
    assert values(ImageSource(folder)) == [1, 2, 9, 10, 100]
    assert values(ImageSource(f"{folder}/shot?.png")) == [1, 2, 9]
    assert values(ImageSource(f"{folder}/*")) == [1, 2, 9, 10, 100]
    assert values(ImageSource(f"{folder}/**/*.png")) == [3, 1, 2, 9, 10, 100]
    assert values(ImageSource(folder / "shot10.png")) == [10]


def test_names_and_numbers_mix_in_one_order(tmp_path):
    names = ["1.png", "02.png", "2.png", "a.png", "A2.png", "a10.png", "a2b1.png"]
    for name in names:
        save(tmp_path / name, 1)
    source = ImageSource(tmp_path)
    found = [path.name for path in source._paths]
    assert found == ["1.png", "02.png", "2.png", "a.png", "A2.png", "a2b1.png", "a10.png"]


def test_frames_carry_index_position_and_pixels(folder, clock):
    source = ImageSource(folder, clock=clock, fps=4.0)
    assert (source.name, source.live) == (str(folder), False)
    frames = list(source.frames())
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.media_s for f in frames] == [0, 0.25, 0.5, 0.75, 1.0]
    assert frames[0].pixels.size_wh == (8, 6)
    assert frames[0].pixels.rgb().shape == (6, 8, 3)
    np.testing.assert_array_equal(frames[4].pixels.luma(), np.full((6, 8), 100))
    assert clock.slept_s == []


def test_realtime_gives_fps_images_a_second(folder, clock):
    source = ImageSource(folder, realtime=True, clock=clock, fps=2.0)
    assert source.live
    frames = list(source.frames())
    steps = np.diff([f.monotonic_ns for f in frames]) / 1e9
    assert steps == pytest.approx([0.5] * 4)
    assert max(clock.slept_s) <= 0.05


def test_what_cannot_be_decoded_is_counted(folder):
    (folder / "shot2.png").write_bytes(b"")
    (folder / "shot9.png").write_bytes((folder / "shot10.png").read_bytes()[:40])
    source = ImageSource(folder)
    (folder / "shot100.png").unlink()  # gone before its turn
    items = list(source.frames())
    assert [type(item) for item in items] == [Frame, BadFrame, BadFrame, Frame, BadFrame]
    assert [item.index for item in items] == [0, 1, 2, 3, 4]
    assert "shot2.png is empty" in items[1].reason
    assert "shot100.png does not exist" in items[4].reason


def test_the_camera_s_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    save(tmp_path / "a.jpg", 50, (8, 6), exif=exif)
    pixels = next(ImageSource(tmp_path).frames()).pixels
    assert pixels.size_wh == (6, 8)
    assert pixels.luma().shape == (8, 6)


def test_no_image_is_unavailable(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for pattern in (tmp_path, f"{tmp_path}/*.png"):
        with pytest.raises(SourceUnavailable, match="holds no image"):
            ImageSource(pattern)
    with pytest.raises(SourceUnavailable, match="does not exist"):
        ImageSource(tmp_path / "nope.png")
    with pytest.raises(ConfigError, match="fps must be positive"):
        ImageSource(tmp_path, fps=0)


def test_close_ends_the_images(folder):
    source = ImageSource(folder)
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
