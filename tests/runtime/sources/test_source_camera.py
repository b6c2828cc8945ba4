from __future__ import annotations

import re
import threading

import cv2
import numpy as np
import pytest

from edgevlm.errors import ConfigError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.sources.camera import FAILED_READS, CameraSource, plugged

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


@pytest.mark.parametrize(
    "uri",
    ["", "-1", "front", "/dev/video0", "video0", "v4l2:///dev/video", "v4l2:///dev/v4l/by-id/..",
     "v4l2:///dev/v4l/by-id/a/../../video0", "v4l2:///dev/v4l/by-id/"],
)  # fmt: skip
def test_other_names_are_refused(uri):
    with pytest.raises(ConfigError, match="a camera is 0, v4l2:///dev/video0 or"):
        CameraSource(uri)


class Plug:
    """A machine with one camera, which can be unplugged and plugged in as another number."""

    def __init__(self, root, monkeypatch):
        self.dev = root / "dev"
        (self.dev / "v4l" / "by-id").mkdir(parents=True)
        (self.dev / "v4l" / "by-path").mkdir()
        self.number = None
        self.opened = []
        self.level = 0
        monkeypatch.setattr(cv2, "VideoCapture", self.capture)

    def plug(self, number, folder="by-id"):
        self.number = number
        (self.dev / f"video{number}").touch()
        (self.dev / "v4l" / folder / "usb-Acme_Cam_1234-index0").symlink_to(f"../../video{number}")

    def unplug(self):
        (self.dev / f"video{self.number}").unlink()
        for link in (self.dev / "v4l").glob("*/*"):
            link.unlink()
        self.number = None

    def capture(self, number, _api):
        self.opened.append(number)
        return Handle(self, number)


class Handle(Scripted):
    def __init__(self, plug, number):
        super().__init__([])
        self.plug, self.number = plug, number

    def isOpened(self):
        return self.plug.number == self.number

    def grab(self):
        return self.plug.number == self.number

    def retrieve(self):
        self.plug.level = (self.plug.level + 1) % 256
        return True, np.full((32, 48, 3), self.plug.level, np.uint8)


LINK = "v4l2:///dev/v4l/by-id/usb-Acme_Cam_1234-index0"


@pytest.mark.parametrize("uri", ["2", "v4l2:///dev/video2", LINK])
@pytest.mark.parametrize("folder", ["by-id", "by-path"])
def test_a_camera_that_comes_back_as_another_number_is_the_same(
    tmp_path, monkeypatch, clock, uri, folder
):
    if uri == LINK and folder == "by-path":
        uri = uri.replace("by-id", "by-path")
    machine = Plug(tmp_path, monkeypatch)
    machine.plug(2, folder)
    source = plugged(uri, clock, machine.dev)
    name = source.name
    items = source.frames()
    assert [next(items).index for _ in range(3)] == [0, 1, 2]
    machine.unplug()
    fault = next(items)
    assert (fault.code, "unplugged" in fault.message) == ("stall", True)
    waited = []

    def back_later():
        waited.append(clock.now_ns)
        if len(waited) == 5000:  # four minutes
            machine.plug(5, folder)

    clock.on_sleep = back_later
    again = [next(items) for _ in range(4)]
    source.close()
    items.close()
    codes = [i.code for i in again if isinstance(i, SourceFault)]
    assert codes == ["source", "recovered"]
    frames = [i for i in again if isinstance(i, Frame)]
    assert [f.index for f in frames] == [3, 4]
    assert frames[0].monotonic_ns - waited[4999] < 10e9
    assert machine.opened[0] == 2
    assert machine.opened[-1] == 5
    assert source.name == name


def test_a_number_must_be_there_at_the_start_and_a_name_is_waited_for(tmp_path, monkeypatch, clock):
    machine = Plug(tmp_path, monkeypatch)
    with pytest.raises(SourceUnavailable, match="no such device"):
        plugged("2", clock, machine.dev)
    source = plugged(LINK, clock, machine.dev)
    items = source.frames()
    assert next(items).code == "source"
    machine.plug(7)
    assert next(items).code == "recovered"
    assert next(items).index == 0
    source.close()
    items.close()


def test_a_picture_that_repeats_is_reported_once_and_ends_with_its_device(
    tmp_path, monkeypatch, clock
):
    machine = Plug(tmp_path, monkeypatch)
    machine.plug(2)
    monkeypatch.setattr(Handle, "retrieve", lambda *_: (True, np.full((32, 48, 3), 9, np.uint8)))
    items = CameraSource("2", clock, dev=machine.dev).frames()
    seen = []
    for _ in range(30):
        clock.now_ns += 1_000_000_000
        seen.append(next(items))
    faults = [i for i in seen if isinstance(i, SourceFault)]
    assert [f.code for f in faults] == ["stall"]
    assert "bit for bit, for 10 s" in faults[0].message
    monkeypatch.undo()
    monkeypatch.setattr(cv2, "VideoCapture", machine.capture)
    monkeypatch.setattr(Handle, "retrieve", lambda *_: (True, np.full((32, 48, 3), 9, np.uint8)))
    source = CameraSource("2", clock, dev=machine.dev)
    items = source.frames()
    next(items)
    (machine.dev / "video2").unlink()  # the driver goes on, the device is gone
    clock.now_ns += 11_000_000_000
    with pytest.raises(SourceStalled, match="its device is gone"):
        next(items)


def test_one_read_that_fails_after_long_is_enough(tmp_path, monkeypatch, clock):
    machine = Plug(tmp_path, monkeypatch)
    machine.plug(2)

    def hang(_self):
        clock.now_ns += 10_000_000_000
        return False

    monkeypatch.setattr(Handle, "grab", hang)
    begun = clock.now_ns
    with pytest.raises(SourceStalled, match="1 failed reads"):
        list(CameraSource("2", clock, dev=machine.dev).frames())
    assert clock.now_ns - begun < 11_000_000_000


def test_a_missing_camera_is_named_without_noise(capfd):
    with pytest.raises(SourceUnavailable, match=r"camera /dev/video988 .*no such device"):
        CameraSource("988")
    assert capfd.readouterr() == ("", "")
