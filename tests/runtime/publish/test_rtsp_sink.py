"""Publishing over RTSP: a real server that records, one that hangs, one that comes and goes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import av
import numpy as np
import pytest

from edgevlm.errors import ConfigError, SinkError
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.stream.delivery import courier
from edgevlm.runtime.stream.sinks import open_sink
from edgevlm.runtime.stream.sinks.base import Told
from tests.conftest import missing
from tests.runtime.sources.chaos_proxy import ChaosProxy
from tests.runtime.sources.conftest import certificate  # noqa: F401 - a fixture
from tests.runtime.sources.rtsp_servers import PACKAGES, Server, answer, silent
from tests.runtime.stream.told import told


@contextlib.contextmanager
def recording(file: Path, *credentials: str):
    """Debian's GStreamer RTSP server as a recorder, in a child process; gives its port."""
    script = Path(__file__).with_name("recording_server.py")
    if not Path("/usr/bin/python3").exists():
        missing(f"no /usr/bin/python3 with GStreamer (apt-get install {PACKAGES})")
    child = subprocess.Popen(
        ["/usr/bin/python3", str(script), str(file), *credentials],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = child.stdout.readline().strip()
        if not port:
            reason = child.communicate()[1].strip().splitlines()[-1:]
            missing(f"no GStreamer RTSP server (apt-get install {PACKAGES}): {reason}")
        yield int(port)
    finally:
        child.kill()
        child.communicate()


def grey(level: int, index: int = 0, size_wh=(160, 120)) -> Frame:
    picture = np.full((size_wh[1], size_wh[0], 3), level, np.uint8)
    return Frame(index=index, pixels=ArrayPixels(picture), captured_ns=0, monotonic_ns=0)


def show(sink, level: int, do="reuse", event=None) -> list[str]:
    """One frame and, if it is given, its event; what the sink says."""
    sink.seen(grey(level), do, {})
    with contextlib.suppress(SinkError):
        sink.write(event or told(0, ""))
        return []
    return said_by(sink)


def said_by(sink) -> list[str]:
    try:
        sink.write(told(0, ""))
    except SinkError as exc:
        return [str(exc)]
    return []


def until(done, limit_s=20.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def decoded(file: Path) -> list[np.ndarray]:
    with contextlib.suppress(av.FFmpegError), av.open(str(file), format="h264") as container:
        return [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    return []


@pytest.fixture
def quick(monkeypatch):
    """Attempts after tenths of a second."""
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.1)
    monkeypatch.setattr(courier, "LONGEST_RETRY_S", 0.2)


def test_frames_arrive_with_their_answers_drawn(tmp_path):
    file = tmp_path / "came.h264"
    with recording(file) as port:
        sink = open_sink(f"rtsp://127.0.0.1:{port}/live")
        publisher = sink._publisher
        for level in (40, 120, 200):
            before = publisher.sent
            sink.seen(grey(level), "answer", {})
            assert publisher.sent == before  # it waits for its answer
            sink.write(Told(told(0, "a cat").event))
            until(lambda before=before: publisher.sent > before)
        sink.seen(grey(240), "reuse", {})
        until(lambda: any(picture[:40].mean() > 220 for picture in decoded(file)))
        sink.close()
        sink.close()
    levels = [round(float(picture[:40].mean())) for picture in decoded(file)]
    shown = [level for n, level in enumerate(levels) if n == 0 or abs(level - levels[n - 1]) > 20]
    assert shown == pytest.approx([40, 120, 200, 240], abs=6)
    assert decoded(file)[0][-20:].std() > 5  # the text
    assert publisher.dropped == 0


def test_a_stream_is_never_held_up_and_what_is_not_sent_is_counted():
    """A server that accepts connections and says nothing: the stream does not notice."""
    with Server(silent) as server:
        sink = open_sink(f"rtsp://127.0.0.1:{server.port}/live#timeout=0.5")
        publisher, slowest = sink._publisher, 0.0
        for level in range(60):
            begun = time.monotonic()
            sink.seen(grey(level), "reuse", {})
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.02)
        until(lambda: publisher.trouble)
        (said,) = said_by(sink)
        assert said.startswith(f"rtsp://127.0.0.1:{server.port}/live: not published: ")
        assert said_by(sink) == []  # once
        begun = time.monotonic()
        with pytest.raises(SinkError, match=r"not published at the end.*pictures were dropped"):
            sink.close()
        assert time.monotonic() - begun < 6
    assert slowest < 0.3
    assert publisher.sent == 0
    assert publisher.dropped >= 55


@pytest.mark.usefixtures("quick")
def test_a_server_that_goes_away_is_found_again(tmp_path):
    file = tmp_path / "came.h264"
    with recording(file) as port, ChaosProxy(port) as proxy:
        sink = open_sink(f"rtsp://127.0.0.1:{proxy.port}/live#timeout=1")
        publisher, said = sink._publisher, []

        def shown_until(done) -> None:
            def step() -> bool:
                sink.seen(grey(90), "reuse", {})
                said.extend(said_by(sink))
                return done()

            until(step)

        shown_until(lambda: publisher.sent >= 2)
        proxy.cut()
        shown_until(lambda: publisher.trouble)
        dropped = publisher.dropped
        shown_until(lambda: publisher.dropped > dropped)
        proxy.whole()
        sent = publisher.sent
        shown_until(lambda: publisher.sent > sent + 2)
        shown_until(lambda: "published again" in "".join(said))
        sink.close()
    assert "not published: " in said[0]
    assert "pictures were not" in said[-1]


@pytest.mark.usefixtures("quick")
def test_a_password_comes_from_the_environment_and_is_shown_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_PASSWORD", "ca:n@ry")
    file = tmp_path / "came.h264"
    with recording(file, "door", "ca:n@ry") as port:
        sink = open_sink(f"rtsp://door@127.0.0.1:{port}/live#password_env=CAM_PASSWORD")
        sink.seen(grey(60), "reuse", {})
        until(lambda: sink._publisher.sent)
        command = (publishing() / "cmdline").read_bytes()
        assert b"n@ry" not in command
        assert b"n%40ry" not in command
        sink.close()
        monkeypatch.setenv("CAM_PASSWORD", "ca:n@ry-wrong")
        refused = open_sink(f"rtsp://door@127.0.0.1:{port}/live#password_env=CAM_PASSWORD")
        refused.seen(grey(60), "reuse", {})
        until(lambda: refused._publisher.trouble)
        (said,) = said_by(refused)
        assert "401" in said
        assert "n@ry" not in said
        assert "n%40ry" not in said
        with pytest.raises(SinkError, match="at the end"):
            refused.close()


def publishing() -> Path:
    """Where the system describes our one child that publishes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{os.getpid()}\n" in (process / "status").read_text():
                found += [process] * (b"rtsp_child" in (process / "cmdline").read_bytes())
    (child,) = found
    return child


def test_a_killed_child_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.1)
    with recording(tmp_path / "came.h264") as port:
        sink = open_sink(f"rtsp://127.0.0.1:{port}/live")
        sink.seen(grey(60), "reuse", {})
        until(lambda: sink._publisher.sent)
        os.kill(int(publishing().name), signal.SIGKILL)
        said = []

        def back() -> bool:
            sink.seen(grey(61), "reuse", {})
            said.extend(said_by(sink))
            return "published again" in "".join(said)

        until(back)
        sink.close()


def test_nothing_is_left_of_a_sink_that_showed_nothing():
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    sink = open_sink(f"rtsp://127.0.0.1:{port}/live")
    sink.close()
    with pytest.raises(SinkError, match="is closed"):
        sink.write(told(0))


def test_an_answer_of_the_server_is_passed_on():
    with Server(answer("406 Not Acceptable")) as server:
        sink = open_sink(f"rtsp://127.0.0.1:{server.port}/live")
        sink.seen(grey(60), "reuse", {})
        until(lambda: sink._publisher.trouble)
        assert any(request.startswith("OPTIONS") for request in server.requests)
        with pytest.raises(SinkError):
            sink.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_rtsps_sends_nothing_to_a_server_whose_certificate_is_not_trusted(
    certificate,  # noqa: F811
    monkeypatch,
    trusted,
):
    if certificate is None:
        missing("no openssl command (apt-get install openssl)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with Server(answer("406 Not Acceptable"), context) as server:
        sink = open_sink(f"rtsps://127.0.0.1:{server.port}/live")
        sink.seen(grey(60), "reuse", {})
        until(lambda: sink._publisher.trouble)
        with pytest.raises(SinkError):
            sink.close()
        sent = "".join(server.requests)
    assert ("OPTIONS" in sent) is trusted


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("rtsp:///live", "names no host"),
        ("rtsp://door:secret@host/live", "password does not belong"),
        ("rtsp://host/live#password_env=NOT_THERE_AT_ALL", "environment has no NOT_THERE_AT_ALL"),
        ("rtsp://host/live#transport=carrier", "transport is tcp or udp"),
        ("rtsp://host/live#timeout=0", "no time from 0 to 60"),
        ("rtsp://host/live#bitrate=3", "unknown option 'bitrate'"),
    ],
)
def test_addresses_that_cannot_be(uri, message):
    with pytest.raises(ConfigError, match=message):
        open_sink(uri)
