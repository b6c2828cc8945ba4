"""The spool: every frame once and in order, whatever it is made of and however full it gets."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.errors import ConfigError, SourceError, SourceStalled
from edgevlm.frame import ArrayPixels, BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.handover import feed
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.sources.pixels import CvPixels, VideoPixels
from edgevlm.runtime.stream.spill import spill
from edgevlm.runtime.stream.spool import Spool


def never() -> bool:
    return False


def frame(index: int, width: int = 10, height: int = 10) -> Frame:
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(index=index, pixels=ArrayPixels(image), captured_ns=index, monotonic_ns=index,
                 frame_id="left")  # fmt: skip


def test_frames_come_back_as_they_were(tmp_path: Path):
    spool = Spool(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []  # the file has no name, so that none stays behind
    put = [frame(0), BadFrame(index=1, reason="damaged"),
           SourceFault(code="stall", message="gone"), frame(2, 7, 3)]  # fmt: skip
    for item in put:
        assert spool.put(item)
    spool.close()
    got = list(spool.items(never))
    assert got[1:3] == put[1:3]
    for one, other in ((got[0], put[0]), (got[3], put[3])):
        assert (one.index, one.captured_ns, one.frame_id) == (other.index, other.index, "left")
        np.testing.assert_array_equal(one.pixels.rgb(), other.pixels.rgb())
    assert spool.take_left() == 0


@pytest.mark.parametrize(
    "name",
    ["yuv420p", "yuvj420p", "nv12", "yuyv422", "rgb24", "gray", "gray16le", "yuv444p", "bgr0",
     "yuv420p10le", "bayer_rggb8"],
)  # fmt: skip
def test_a_decoded_picture_keeps_its_planes_colours_and_turn(name: str):
    picture = av.VideoFrame(50, 22, name)
    rng = np.random.default_rng(1)
    for plane in picture.planes:
        values = rng.integers(0, 256, plane.buffer_size, dtype=np.uint8)
        plane.update((values & 3 if name == "yuv420p10le" else values).tobytes())
    picture.colorspace, picture.color_range = 1, 2  # BT.709, full range
    pixels = VideoPixels(picture, (True, False, True))
    buffers, restore = spill(pixels)
    back = restore(b"".join(bytes(b) for b in buffers))
    assert back.size_wh == pixels.size_wh == (22, 50)
    np.testing.assert_array_equal(back.luma(), pixels.luma())
    np.testing.assert_array_equal(back.rgb(), pixels.rgb())


def test_a_picture_with_a_palette_goes_through_rgb():
    picture = av.VideoFrame.from_ndarray(np.full((20, 30, 3), 77, np.uint8), format="rgb24")
    pixels = VideoPixels(picture.reformat(format="rgb8"))
    plain = VideoPixels(picture)
    for each in (pixels, plain):
        buffers, restore = spill(each)
        back = restore(b"".join(bytes(b) for b in buffers))
        np.testing.assert_array_equal(back.rgb(), each.rgb())


def test_a_camera_picture_keeps_its_order():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffers, restore = spill(CvPixels(image[:, ::-1], "bgr"))
    back = restore(b"".join(bytes(b) for b in buffers))
    np.testing.assert_array_equal(back.rgb(), image[:, ::-1, ::-1])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.none(), st.integers(1, 180)), max_size=60))
def test_the_ring_never_overwrites_what_was_not_read(tmp_path: Path, steps: list[int | None]):
    """Put (a width) and take (None) in any order: what comes out is what went in."""
    spool = Spool(tmp_path, 1)
    spool.capacity = 60_000  # up to 5 frames of 180x20
    items = spool.items(never)
    expected: deque[Frame] = deque()
    held = 0
    for index, width in enumerate(steps):
        if width is None:
            if expected:
                wanted = expected.popleft()
                got = next(items)
                np.testing.assert_array_equal(got.pixels.rgb(), wanted.pixels.rgb())
                assert got.index == wanted.index
                held -= wanted.pixels.rgb().nbytes
            continue
        one = frame(index, width, 20)
        size = one.pixels.rgb().nbytes
        # Room in two pieces is no room: less than half full, there is one piece of a quarter.
        if spool._free(size) is None:
            assert held + 2 * size > spool.capacity - 2 * 180 * 60
            continue
        assert spool.put(one)
        expected.append(one)
        held += size
    spool.close()
    assert [f.index for f in items] == [f.index for f in expected]


def test_a_full_spool_holds_the_source_back_and_says_so_once(tmp_path: Path):
    spool = Spool(tmp_path, 1)
    spool.capacity = 1000  # three frames of 300 bytes
    feed(spool, (frame(n) for n in range(12)))
    deadline = time.monotonic() + 5
    while len(spool._entries) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(spool._entries) == 4  # three frames and the report
    got = list(spool.items(never))
    assert [f.index for f in got if isinstance(f, Frame)] == list(range(12))
    assert {f.code for f in got if isinstance(f, SourceFault)} == {"spool_full"}


def test_closing_frees_a_writer_that_waits(tmp_path: Path):
    spool = Spool(tmp_path, 1)
    spool.capacity = 400
    results = []
    writer = threading.Thread(target=lambda: results.extend(spool.put(frame(n)) for n in (0, 1)))
    writer.start()
    time.sleep(0.05)
    assert spool.take_left() in (0, 1)
    spool.close()
    writer.join(2)
    assert not writer.is_alive()
    assert results[0] is True


def test_an_error_of_the_source_comes_behind_its_frames(tmp_path: Path):
    def frames():
        yield frame(0)
        raise SourceStalled("gone")

    spool = Spool(tmp_path, 1)
    feed(spool, frames())
    items = spool.items(never)
    assert next(items).index == 0
    with pytest.raises(SourceStalled, match="gone"):
        next(items)


def test_what_cannot_be_is_said_before_the_run(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"spool of 1e\+09 MB does not fit .*spool_mb"):
        Spool(tmp_path, 10**9)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no spool can be made in"):
        Spool(tmp_path / "file", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(SourceError, match=r"frame of 1\.3 MB does not fit the spool of 1 MB"):
        Spool(tmp_path, 1).put(frame(0, 700, 600))


class Live:
    """Faster than the model."""

    name, live = "live", True

    def __init__(self, count: int) -> None:
        self._count = count

    def frames(self):
        for index in range(self._count):
            now = time.monotonic_ns()
            picture = ArrayPixels(np.full((36, 64, 3), index * 40 % 256, np.uint8))
            yield Frame(index=index, pixels=picture, captured_ns=now, monotonic_ns=now)
            time.sleep(0.001)

    def close(self) -> None:
        pass


def test_every_loses_nothing_of_a_live_source(config, scripted, tmp_path: Path):
    model = scripted(before_step=lambda: time.sleep(0.004))
    settings = config(policy={"mode": "every", "spool_mb": 1, "spool_dir": str(tmp_path),
                              "gate": False})  # fmt: skip
    *events, summary = Stream(settings, Live(60), model).events()
    assert summary.frames.read == summary.frames.answered == 60
    assert [e.frame for e in events] == list(range(60))


def test_what_lies_in_the_spool_at_the_end_counts_as_shutdown(config, scripted, tmp_path: Path):
    model = scripted(before_step=lambda: time.sleep(0.004))
    settings = config(policy={"mode": "every", "spool_mb": 1, "spool_dir": str(tmp_path)},
                      limits={"duration_s": 0.3})  # fmt: skip
    *_, summary = Stream(settings, Live(10_000), model).events()
    frames = summary.frames
    assert frames.dropped["shutdown"] > 0
    assert frames.read == frames.answered + frames.reused + sum(frames.dropped.values())


def test_a_rate_keeps_frames_that_nobody_looks_at_out_of_the_spool(
    config, scripted, tmp_path: Path
):
    settings = config(policy={"mode": "every", "spool_mb": 1, "spool_dir": str(tmp_path),
                              "rate_hz": 50.0, "gate": False})  # fmt: skip
    *_, summary = Stream(settings, Live(200), scripted()).events()
    frames = summary.frames
    assert frames.read == 200
    assert frames.dropped == {"sampled": 200 - frames.answered}
    assert 3 <= frames.answered < 100
