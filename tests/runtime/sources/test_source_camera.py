from __future__ import annotations

import re
import threading

import cv2
import numpy as np
import pytest

from edgevlm.errors import ConfigError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources.camera import FAILED_READS, CameraSource

REAL = cv2.VideoCapture


@pytest.fixture
def recorded(encode, tmp_path, monkeypatch):
    """OpenCV reading a recorded clip in the place of a camera, which no test machine has."""
    path = encode(tmp_path / "cam.avi", 6, codec="mjpeg", pix_fmt="yuvj420p")
    opened = []

    def capture(number, api):
        opened.append((number, api))
        return REAL(str(path), cv2.CAP_FFMPEG)

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return path, opened


def test_frames_come_until_the_camera_fails(recorded, clock, collect):
    path, opened = recorded
    source = CameraSource("v4l2:///dev/video3", clock=clock)
    assert (source.name, source.live) == ("/dev/video3", True)
    assert opened[0][0] == 3
    frames, error = collect(source)
    assert isinstance(error, SourceStalled)
    assert re.search("/dev/video3 delivers no frame .*unplugged", str(error))
    assert [f.index for f in frames] == list(range(6))
    assert {f.media_s for f in frames} == {None}
    assert {f.clock for f in frames} == {"arrival"}
    assert len(clock.slept_s) == FAILED_READS - 1
    reader = REAL(str(path), cv2.CAP_FFMPEG)
    _, bgr = reader.read()
    reader.release()
    pixels = frames[0].pixels
    assert pixels.size_wh == (160, 120)
    np.testing.assert_array_equal(pixels.luma(), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    np.testing.assert_array_equal(pixels.rgb(), bgr[:, :, ::-1])
    assert pixels.rgb() is pixels.rgb()
    assert np.abs(pixels.luma().astype(int) - cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)).max() <= 1


@pytest.mark.usefixtures("recorded")
def test_close_is_legal_in_every_state():
    source = CameraSource("0")
    source.close()
    source.close()
    assert list(source.frames()) == []
    source = CameraSource("0")
    frames = source.frames()
    assert isinstance(next(frames), Frame)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join()
    assert list(frames) == []


class Scripted:
    """A capture whose grabs and retrieves follow a script, for what no clip can show."""

    def __init__(self, script):
        self.script = list(script)
        self.released = 0
        self.settings = {}

    def isOpened(self):
        return True

    def set(self, key, value):
        self.settings[key] = value
        return True

    def grab(self):
        return self.script[0] != "nothing" if self.script else False

    def retrieve(self):
        step = self.script.pop(0)
        image = np.full((4, 6, 3), 9, np.uint8)
        return (False, None) if step == "broken" else (True, image)

    def release(self):
        self.released += 1


def test_a_broken_picture_is_counted_and_a_missing_one_is_not(monkeypatch, clock, collect):
    capture = Scripted(["whole", "broken", "whole", "nothing"])
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
    source = CameraSource("0", clock=clock)
    items, error = collect(source)
    assert isinstance(error, SourceStalled)
    assert [type(item) for item in items] == [Frame, BadFrame, Frame]
    assert [item.index for item in items] == [0, 1, 2]
    assert capture.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
    assert capture.released == 1


def test_a_short_gap_is_bridged(monkeypatch, clock):
    class Gap(Scripted):
        def grab(self):
            if self.script and self.script[0] == "nothing":
                self.script.pop(0)
                return False
            return bool(self.script)

    gaps = ["nothing"] * (FAILED_READS - 1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Gap([*gaps, "whole", *gaps, "whole"]))
    frames = CameraSource("0", clock=clock).frames()
    assert [next(frames).index, next(frames).index] == [0, 1]


@pytest.mark.parametrize("uri", ["", "-1", "front", "/dev/video0", "v4l2:///dev/video"])
def test_other_names_are_refused(uri):
    with pytest.raises(ConfigError, match="a camera is 0 or v4l2:///dev/video0"):
        CameraSource(uri)


def test_a_missing_camera_is_named_without_noise(capfd):
    with pytest.raises(SourceUnavailable, match=r"camera /dev/video988 .*no such device"):
        CameraSource("988")
    assert capfd.readouterr() == ("", "")
