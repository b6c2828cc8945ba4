"""Motion JPEG and HLS from a server on loopback."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import shutil
import ssl
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgevlm.errors import SourceStalled, SourceUnauthorized, SourceUnavailable
from edgevlm.frame import Frame, SourceFault
from edgevlm.runtime.stream.sources import open_source, reconnect
from edgevlm.runtime.stream.sources.http import HttpSource
from edgevlm.runtime.stream.sources.video import VideoFileSource
from tests.runtime.sources.conftest import picture


class Camera(http.server.BaseHTTPRequestHandler):
    """Motion JPEG at ``/mjpeg``, refusals, and the files of a folder."""

    protocol_version = "HTTP/1.0"
    pictures: tuple[bytes, ...] = ()
    every_s = 0.02
    folder = Path()
    authorization: str | None = None
    sent: list[str | None] = []  # noqa: RUF012 - one class a server

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.sent.append(self.headers.get("Authorization"))
        if self.authorization and self.headers.get("Authorization") != self.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        if self.path == "/mjpeg":
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            try:
                for jpeg in self.pictures:
                    head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                    self.wfile.write(f"{head}\r\n\r\n".encode() + jpeg + b"\r\n")
                    time.sleep(self.every_s)
                time.sleep(self.every_s * 20)
            except OSError:
                pass
            return
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file, contextlib.suppress(OSError):
            shutil.copyfileobj(file, self.wfile)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(tls=None, **settings):
        handler = type("Handler", (Camera,), {"folder": tmp_path, "sent": [], **settings})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_address[1]}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def jpegs():
    return tuple(
        cv2.imencode(".jpg", picture(n, (160, 120))[:, :, ::-1])[1].tobytes() for n in range(20)
    )


def test_motion_jpeg_is_read_with_the_times_of_arrival(serve, jpegs):
    host, _ = serve(pictures=jpegs, every_s=0.03)
    source = open_source(f"http://{host}/mjpeg", reconnect=False, timeout_s=3)
    frames = []
    for item in source.frames():
        frames.append(item)
        if len(frames) == 15:
            source.close()
    assert [type(f) for f in frames] == [Frame] * 15
    assert frames[0].pixels.size_wh == (160, 120)
    for frame, jpeg in zip(frames, jpegs, strict=False):
        expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.abs(frame.pixels.luma().astype(int) - expected).max() <= 2
    span_s = (frames[-1].monotonic_ns - frames[0].monotonic_ns) / 1e9
    assert frames[-1].media_s == pytest.approx(span_s, abs=0.05)


def test_the_end_of_motion_jpeg_is_a_stall(serve, jpegs):
    host, _ = serve(pictures=jpegs[:5], every_s=0.01)
    with pytest.raises(SourceStalled, match="stopped"):
        list(HttpSource(f"http://{host}/mjpeg", timeout_s=2).frames())


def hls(folder, encode, segment="part"):
    """A closed playlist of two segments."""
    for n in range(2):
        encode(folder / f"{segment}{n}.ts", 25, options={"g": "12"})
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
    for n in range(2):
        lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:1.0,", f"{segment}{n}.ts"]
    (folder / "list.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))


def test_a_closed_playlist_is_played_at_its_pace_and_ends(serve, encode, tmp_path, clock):
    hls(tmp_path, encode)
    host, _ = serve()
    source = HttpSource(f"http://{host}/list.m3u8", clock=clock, timeout_s=5)
    frames = list(source.frames())
    assert len(frames) == 50
    assert [f.index for f in frames] == list(range(50))
    assert sum(clock.slept_s) == pytest.approx(frames[-1].media_s, abs=0.01)
    expected = [f.pixels.luma() for f in VideoFileSource(tmp_path / "part0.ts").frames()]
    for frame, luma in zip(frames, expected, strict=False):
        np.testing.assert_array_equal(frame.pixels.luma(), luma)


def test_another_codec_after_a_restart_is_reported(serve, encode, tmp_path, monkeypatch):
    monkeypatch.setattr(reconnect, "FIRST_S", 0.0)
    codecs = av.codecs_available
    if "libx265" not in codecs:
        pytest.skip("this PyAV has no H.265 encoder")
    encode(tmp_path / "a.ts", 25, options={"g": "12"})
    host, _ = serve()
    source = open_source(f"http://{host}/a.ts", timeout_s=3)
    items = source.frames()
    assert isinstance(next(items), Frame)
    encode(tmp_path / "b.ts", 25, codec="libx265", options={"x265-params": "log-level=0"})
    (tmp_path / "b.ts").replace(tmp_path / "a.ts")
    faults = []
    for item in items:
        if isinstance(item, SourceFault):
            faults.append(item)
        elif "format_changed" in [f.code for f in faults]:
            break
    source.close()
    items.close()
    assert [f.code for f in faults] == ["stall", "recovered", "format_changed"]
    assert "yuv420p of hevc after 160x120 yuv420p of h264" in faults[-1].message


def test_a_playlist_opens_nothing_but_http(serve, encode, tmp_path):
    clip = encode(tmp_path / "private.ts", 25)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist.format(clip))
    host, _ = serve()
    with pytest.raises((SourceUnavailable, SourceStalled)):
        list(HttpSource(f"http://{host}/list.m3u8", timeout_s=2).frames())


@pytest.mark.parametrize("password", ["canary", "can@ry:1"])
def test_credentials_open_a_camera_and_are_not_shown(serve, jpegs, password):
    basic = base64.b64encode(f"user:{password}".encode()).decode()
    host, handler = serve(pictures=jpegs, authorization=f"Basic {basic}")
    source = HttpSource(f"http://user:{password}@{host}/mjpeg", timeout_s=3)
    assert isinstance(next(source.frames()), Frame)
    source.close()
    assert source.name == f"http://***@{host}/mjpeg"
    assert handler.sent[-1] == f"Basic {basic}"
    with pytest.raises(SourceUnauthorized, match="401") as caught:
        list(HttpSource(f"http://user:canary-wrong@{host}/mjpeg", timeout_s=3).frames())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("path", "problem"), [("gone.m3u8", "404"), ("text", "Invalid data")])
def test_what_is_no_stream_is_unavailable(serve, tmp_path, path, problem):
    (tmp_path / "text").write_text("hello world\n" * 200)
    host, _ = serve()
    with pytest.raises(SourceUnavailable, match=problem):
        list(HttpSource(f"http://{host}/{path}", timeout_s=3).frames())


def test_https_checks_the_certificate(serve, jpegs, certificate, require, monkeypatch):
    if certificate is None:
        require("no openssl command (apt-get install openssl)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    host, handler = serve(tls=context, pictures=jpegs)
    uri = f"https://user:canary@{host}/mjpeg"
    with pytest.raises(SourceUnavailable, match="is the certificate trusted here"):
        list(HttpSource(uri, timeout_s=3).frames())
    assert handler.sent == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    source = HttpSource(uri, timeout_s=3)
    assert isinstance(next(source.frames()), Frame)
    source.close()


def test_hls_over_https_is_read_only_where_unchecked_segments_are_allowed(
    serve, encode, tmp_path, certificate, require, monkeypatch, clock
):
    if certificate is None:
        require("no openssl command (apt-get install openssl)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    hls(tmp_path, encode)
    host, _ = serve(tls=context)
    uri = f"https://{host}/list.m3u8"
    with pytest.raises(SourceUnavailable, match=r"checks no certificates of its segments.*#seg"):
        list(HttpSource(uri, timeout_s=3).frames())
    source = HttpSource(f"{uri}#segments=unchecked", clock=clock, timeout_s=3)
    assert len(list(source.frames())) == 50
    assert source.name == uri


def test_libav_has_what_these_sources_need():
    assert {"mpjpeg", "hls", "rtsp"} <= av.formats_available
