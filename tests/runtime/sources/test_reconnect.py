"""Live sources that fail and come back: by script and clock, and over loopback in earnest."""

from __future__ import annotations

import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import SourceStalled, SourceUnauthorized, SourceUnavailable
from edgevlm.frame import ArrayPixels, BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.handover import Latest, feed
from edgevlm.runtime.stream.sources import open_source, reconnect
from edgevlm.runtime.stream.sources.reconnect import Backoff, ReconnectingSource
from edgevlm.runtime.stream.sources.rtsp import RtspSource

PICTURE = ArrayPixels(np.zeros((2, 2, 3), np.uint8))


def fresh(error):
    """A copy: an error that is raised again and again keeps every traceback."""
    return type(error)(*error.args)


class Scripted:
    """Connections after a script: numbers of frames, "bad" ones, and errors to end with."""

    def __init__(self, clock, *connections):
        self.clock = clock
        self.script = list(connections)
        self.dialled_ns = []
        self.open = 0

    def connect(self):
        self.dialled_ns.append(self.clock.now_ns)
        steps = self.script.pop(0)
        if isinstance(steps[0], Exception):
            raise fresh(steps[0])
        return Connection(self, steps)


class Connection:
    name, live = "camera", True

    def __init__(self, owner, steps):
        self.owner, self.steps = owner, steps
        self.closed = False
        owner.open += 1

    def frames(self):
        index = 0
        for step in self.steps:
            if isinstance(step, Exception):
                raise fresh(step)
            if step == "bad":
                yield BadFrame(index=index, reason="damaged")
                index += 1
                continue
            for _ in range(step):
                self.owner.clock.now_ns += 100_000_000
                now = self.owner.clock.now_ns
                yield Frame(index=index, pixels=PICTURE, captured_ns=now, monotonic_ns=now,
                            media_s=7.0 + index / 10)  # fmt: skip
                index += 1

    def close(self):
        self.owner.open -= not self.closed
        self.closed = True


def listen(clock, *connections, chance=0.0):
    script = Scripted(clock, *connections)
    source = ReconnectingSource("camera", script.connect, clock, backoff=Backoff(lambda: chance))
    return script, source


STALL = SourceStalled("camera stopped")
GONE = SourceUnavailable("camera cannot be opened: refused")
REFUSED = SourceUnauthorized("camera cannot be opened: 401")


def test_frames_go_on_where_they_stopped(clock):
    script, source = listen(clock, [3, STALL], [GONE], [2, "bad", 1])
    items = list(source.frames())
    frames = [i for i in items if isinstance(i, Frame)]
    assert [i.index for i in items if not isinstance(i, SourceFault)] == list(range(7))
    assert [f.media_s for f in frames[:3]] == pytest.approx([0, 0.1, 0.2])
    positions = [f.media_s for f in frames]
    assert all(a < b for a, b in pairwise(positions))
    for frame in frames:  # positions follow the time that went by
        elapsed_s = (frame.monotonic_ns - frames[0].monotonic_ns) / 1e9
        assert frame.media_s == pytest.approx(elapsed_s, abs=0.11)
    faults = [i for i in items if isinstance(i, SourceFault)]
    assert [f.code for f in faults] == ["stall", "source", "recovered"]
    assert "camera stopped; it is tried again" in faults[0].message
    assert "2 attempts later" in faults[2].message
    assert items.index(faults[2]) == items.index(frames[3]) - 1
    assert script.open == 0


def test_a_fault_is_said_once_however_often_it_repeats(clock):
    _, source = listen(clock, *[[GONE]] * 30, [1])
    faults = [i.code for i in source.frames() if isinstance(i, SourceFault)]
    assert faults == ["source", "recovered"]


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.5), (0.999, 1.0)])
def test_attempts_come_twice_as_slowly_each_time_up_to_a_minute(clock, chance, share):
    script, source = listen(clock, *[[GONE]] * 9, [1], chance=chance)
    list(source.frames())
    waits = np.diff(script.dialled_ns) / 1e9
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert waits == pytest.approx([share * s for s in expected], rel=0.01, abs=0.06)


def test_a_flapping_camera_is_not_hammered_and_a_steady_one_comes_back_at_once(clock):
    flapping, source = listen(clock, *[[1, STALL]] * 9, [1])
    list(source.frames())
    assert np.diff(flapping.dialled_ns)[-1] / 1e9 >= 30
    steady, source = listen(clock, *[[200, STALL]] * 5, [1])
    list(source.frames())
    assert (np.diff(steady.dialled_ns) / 1e9).max() < 20 + 0.7  # 20 s of frames each


def test_wrong_credentials_are_their_own_fault_and_tried_slowly(clock):
    script, source = listen(clock, *[[REFUSED]] * 4, [1])
    faults = [i.code for i in source.frames() if isinstance(i, SourceFault)]
    assert faults == ["auth", "recovered"]
    assert (np.diff(script.dialled_ns) / 1e9 >= 29.9).all()


def test_close_ends_a_wait_at_once_and_is_legal_in_every_state(clock):
    script, source = listen(clock, *[[GONE]] * 100)
    clock.on_sleep = source.close
    assert [i.code for i in source.frames()] == ["source"]
    assert len(clock.slept_s) == 1
    source.close()
    _, unread = listen(clock, [1])
    unread.close()
    assert list(unread.frames()) == []
    script, half = listen(clock, [5, STALL], [5])
    items = half.frames()
    next(items)
    half.close()
    items.close()
    assert script.open == 0


def test_ten_thousand_connections_leave_nothing_behind(clock, monkeypatch):
    monkeypatch.setattr(reconnect, "LONGEST_S", 0.1)
    _, source = listen(clock, *[[1, STALL]] * 10_000, [1])
    threads = threading.active_count()
    frames = 0
    for item in source.frames():
        frames += isinstance(item, Frame)
        if frames == 1000:
            base_kb = rss_kb()
        clock.slept_s.clear()
    assert frames == 10_001
    assert threading.active_count() == threads
    assert rss_kb() < base_kb * 1.05


def test_a_name_whose_look_up_hangs_is_given_up(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait(20) or [])
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"look-up of its name took over 0\.2 s"):
        list(RtspSource("rtsp://u:canary@camera.example/x", timeout_s=0.2).frames())
    assert time.monotonic() - began < 2
    never.set()


def test_a_source_that_hangs_in_a_look_up_is_left_at_once(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait(20) or [])
    source = open_source("rtsp://camera.example/x")
    hand_over = Latest()
    feed(hand_over, source.frames())
    time.sleep(0.1)
    began = time.monotonic()
    source.close()
    hand_over.close()
    assert list(hand_over.items(lambda: False)) == []
    assert time.monotonic() - began < 0.5
    never.set()


def test_a_name_that_does_not_exist_is_said_so():
    source = RtspSource("rtsp://u:canary@no-such-host.invalid/x", timeout_s=30)
    with pytest.raises(SourceUnavailable, match="is the host name right") as caught:
        list(source.frames())
    assert "canary" not in str(caught.value)


def rss_kb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4
