"""Live sources that fail and come back: by script and clock, and over loopback in earnest."""

from __future__ import annotations

import ctypes
import gc
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
from edgevlm.runtime.stream.sources.video import VideoFileSource
from tests.runtime.sources.chaos_proxy import ChaosProxy
from tests.runtime.sources.rtsp_servers import (
    Server,
    answer,
    gstreamer,
    parameter_sets,
    pictures,
    playing,
)

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


@pytest.fixture(scope="module")
def long_clip(encode, tmp_path_factory):
    """40 seconds at 25 a second, a key frame every half second."""
    options = {"g": "12", "bf": "0", "x264-params": "sliced-threads=0:scenecut=0"}
    return encode(tmp_path_factory.mktemp("rtsp") / "long.mp4", 1000, options=options)


@pytest.fixture
def quick(monkeypatch):
    """Attempts after tenths of a second: the schedule itself is tested with a clock."""
    monkeypatch.setattr(reconnect, "FIRST_S", 0.1)
    monkeypatch.setattr(reconnect, "LONGEST_S", 0.3)


def rss_kb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def until(items, wanted, limit_s=15):
    """Items up to the one that is wanted, and that one."""
    began, seen = time.monotonic(), []
    for item in items:
        seen.append(item)
        if wanted(item):
            return seen
        assert time.monotonic() - began < limit_s, [s for s in seen if isinstance(s, SourceFault)]
    raise AssertionError("the source ended")


def is_fault(code):
    return lambda item: isinstance(item, SourceFault) and item.code == code


def is_frame(item):
    return isinstance(item, Frame)


@pytest.mark.usefixtures("quick")
def test_a_camera_behind_a_bad_network_is_found_again(require, long_clip):
    """Stalled, cut, garbled and slow in turn: each is noticed, said, and survived."""
    whole = {}
    for frame in VideoFileSource(long_clip).frames():
        if frame.index % 12 == 0:
            whole[frame.pixels.luma().tobytes()] = frame.index
    with gstreamer(require, long_clip) as address:
        port = int(address.partition(":")[2].partition("/")[0])
        with ChaosProxy(port) as proxy:
            uri = f"rtsp://canary:secret@127.0.0.1:{proxy.port}/cam"
            source = open_source(uri, timeout_s=1.0)
            items = source.frames()
            until(items, is_frame)

            proxy.stall()
            began = time.monotonic()
            seen = until(items, is_fault("stall"))
            assert time.monotonic() - began < 4
            assert "no answer within 1 s" in seen[-1].message
            proxy.whole()
            seen += until(items, is_frame)
            assert is_fault("recovered")(seen[-2])
            # A connection starts at a key frame.
            assert seen[-1].pixels.luma().tobytes() in whole

            proxy.cut()
            seen += until(items, is_fault("stall"))
            seen += until(items, is_fault("source"))
            proxy.whole()
            seen += until(items, is_fault("recovered"))

            proxy.slow(100)
            seen += until(items, is_fault("stall"))
            proxy.whole()
            seen += until(items, is_fault("recovered"))
            source.close()
        assert "secret" not in " ".join(f.message for f in seen if isinstance(f, SourceFault))


@pytest.mark.usefixtures("quick")
def test_garbage_on_the_wire_never_becomes_a_picture(long_clip):
    sets, sent = parameter_sets(long_clip), pictures(long_clip)[:200]
    whole = {f.pixels.luma().tobytes() for f in VideoFileSource(long_clip).frames()}
    with Server(playing(sets, sent, every_s=0.005)) as server, ChaosProxy(server.port) as proxy:
        source = open_source(f"rtsp://127.0.0.1:{proxy.port}/live", timeout_s=1.0)
        items = source.frames()
        until(items, is_frame)
        proxy.garbage(20_000)
        seen = until(items, lambda item: not is_frame(item))
        proxy.whole()
        seen += until(items, is_frame)
        source.close()
        seen += list(items)
    shown = [item.pixels.luma().tobytes() for item in seen if is_frame(item)]
    assert [s in whole for s in shown].count(False) <= len(shown) // 50


def test_a_camera_is_read_over_udp(require, long_clip):
    with gstreamer(require, long_clip) as address:
        source = open_source(f"rtsp://{address}#transport=udp", reconnect=False, timeout_s=5)
        frames = []
        for item in source.frames():
            frames.append(item)
            if len(frames) == 30:
                source.close()
    assert source.name == f"rtsp://{address}"
    assert sum(isinstance(f, Frame) for f in frames) >= 25


@pytest.mark.usefixtures("quick")
def test_a_camera_that_is_not_up_yet_is_waited_for(long_clip):
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    source = open_source(f"rtsp://127.0.0.1:{port}/live", timeout_s=1.0)
    items = source.frames()
    assert next(items).code == "source"
    talk = playing(parameter_sets(long_clip), pictures(long_clip)[:100])
    with Server(talk, port=port):
        seen = until(items, is_frame)
        source.close()
    assert [i.code for i in seen[:-1]] == ["recovered"]
    assert seen[-1].index == 0


@pytest.mark.usefixtures("quick")
def test_a_wrong_password_is_said_once_and_never_shown():
    challenge = answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
    with Server(challenge) as server:
        uri = f"rtsp://user:canary@127.0.0.1:{server.port}/live"
        source = open_source(uri, timeout_s=1.0)
        threading.Timer(1.0, source.close).start()
        faults = list(source.frames())
        assert len(server.requests) >= 4
    assert [f.code for f in faults] == ["auth"]
    assert "401" in faults[0].message
    assert "canary" not in faults[0].message


@pytest.mark.usefixtures("quick")
def test_another_picture_size_after_a_restart_is_reported(encode, tmp_path):
    options = {"g": "12", "bf": "0", "x264-params": "sliced-threads=0:scenecut=0"}
    small = encode(tmp_path / "a.mp4", 24, options=options)
    large = encode(tmp_path / "b.mp4", 24, size_wh=(320, 240), options=options)
    clips = iter([small, large])

    def talk(server, connection):
        clip = next(clips, large)
        playing(parameter_sets(clip), pictures(clip), close=True)(server, connection)

    with Server(talk) as server:
        source = open_source(server.uri, timeout_s=2.0)
        items = source.frames()
        until(items, is_frame)
        seen = until(items, is_fault("format_changed"))
        after = next(items)
        source.close()
        items.close()
    assert "320x240 yuv420p of h264 after 160x120 yuv420p of h264" in seen[-1].message
    assert after.pixels.size_wh == (320, 240)


def test_another_picture_size_within_a_stream_is_reported(encode, tmp_path):
    clips = [encode(tmp_path / f"{n}.h264", 20, size_wh=size, options={"bf": "0"})
             for n, size in enumerate([(160, 120), (320, 240)])]  # fmt: skip
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(c.read_bytes() for c in clips))
    items = list(VideoFileSource(both).frames())
    assert [i.code for i in items if isinstance(i, SourceFault)] == ["format_changed"]
    frames = [i for i in items if isinstance(i, Frame)]
    assert [f.pixels.size_wh for f in frames] == [(160, 120)] * 20 + [(320, 240)] * 20
    assert [f.index for f in frames] == list(range(40))


class Heap(ctypes.Structure):
    """What glibc's ``mallinfo2`` gives."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def test_a_connection_that_dropped_leaves_nothing_in_the_heap(long_clip):
    """A packet generator of PyAV that is not closed keeps 150 bytes a connection."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        pytest.skip("this C library has no mallinfo2")
    mallinfo.restype = Heap

    def held() -> int:
        gc.collect()
        return mallinfo().uordblks

    talk = playing(parameter_sets(long_clip), pictures(long_clip)[:12], close=True)
    with Server(talk) as server:
        for dial in range(400):
            with pytest.raises(SourceStalled):
                list(RtspSource(server.uri, timeout_s=2.0).frames())
            server.forget()
            if dial == 199:
                base = held()
        assert (held() - base) / 200 < 75


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quick")
def test_real_connections_that_drop_leave_nothing_behind(long_clip, monkeypatch):
    """Ten thousand dials that reach a camera which hangs up after half a second of pictures."""
    monkeypatch.setattr(reconnect, "FIRST_S", 0.0)
    monkeypatch.setattr(reconnect, "LONGEST_S", 0.0)
    talk = playing(parameter_sets(long_clip), pictures(long_clip)[:12], close=True)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    with Server(talk) as server:
        source = open_source(server.uri, timeout_s=2.0)
        marks, dials = [], 0
        for item in source.frames():
            if not is_fault("stall")(item):
                continue
            server.forget()  # what the test itself would pile up
            dials += 1
            if dials in (500, 10_000):
                gc.collect()
                trim(0)
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                marks.append((descriptors, threading.active_count(), rss_kb()))
            if dials == 10_000:
                source.close()
    base, last = marks
    assert last[0] <= base[0] + 2
    assert last[1] <= base[1] + 1
    assert last[2] < base[2] * 1.01
