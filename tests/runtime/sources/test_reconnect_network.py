"""A camera that comes back, over real sockets on loopback and a proxy that spoils them."""

from __future__ import annotations

import ctypes
import gc
import socket
import threading
import time
from pathlib import Path

import pytest

from edgevlm.errors import SourceStalled
from edgevlm.frame import Frame, SourceFault
from edgevlm.runtime.stream.sources import open_source, reconnect
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
from tests.runtime.sources.test_reconnect import rss_kb


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
