from __future__ import annotations

import base64
import logging
import re
import socket
import ssl
import threading
import time
import traceback
from urllib.parse import quote

import av
import numpy as np
import pytest

from edgevlm.errors import ConfigError, SourceStalled, SourceUnauthorized, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.sources.rtsp import RtspSource
from edgevlm.runtime.stream.sources.video import VideoFileSource
from tests.runtime.sources.rtsp_servers import (
    Server,
    answer,
    gstreamer,
    parameter_sets,
    pictures,
    playing,
    silent,
)

USER, PASSWORD = "can ary-user", "can@ry!#/se:cret?"
RAW = f"{USER}:can@ry%21#/se:cret?"
ENCODED = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
SECRETS = ("can@ry", "cret", "ary-user", quote(PASSWORD, safe=""), quote(USER, safe=""))


@pytest.fixture(scope="module")
def camera_clip(encode, tmp_path_factory):
    """Three seconds with a key frame every half second and one slice a picture."""
    options = {"g": "12", "bf": "0", "x264-params": "sliced-threads=0:scenecut=0"}
    return encode(tmp_path_factory.mktemp("rtsp") / "cam.mp4", 75, options=options)


def read(source):
    """What a source gives, its error, and the seconds it took."""
    began, items, error = time.monotonic(), [], None
    try:
        items.extend(source.frames())
    except (SourceStalled, SourceUnavailable) as exc:
        error = exc
    return items, error, time.monotonic() - began


def printed(error):
    """Everything a program can print of an error, chained ones included."""
    links = [error, error.__cause__, error.__context__]
    return " ".join([*traceback.format_exception(error), *map(repr, links)])


def test_a_camera_is_read_from_its_key_frame_on(require, camera_clip):
    with gstreamer(require, camera_clip) as address:
        source = open_source(f"rtsp://{address}", reconnect=False)
        before_ns = time.monotonic_ns()
        frames = []
        for item in source.frames():
            assert isinstance(item, Frame)
            frames.append(item)
            if len(frames) == 25:
                source.close()
        after_ns = time.monotonic_ns()
    assert len(frames) == 25
    assert [f.index for f in frames] == list(range(25))
    assert [f.media_s for f in frames] == pytest.approx([i / 25 for i in range(25)], abs=0.005)
    stamps = [before_ns, *(f.monotonic_ns for f in frames), after_ns]
    assert stamps == sorted(stamps)
    picture = frames[0].pixels
    assert picture.size_wh == (160, 120)
    assert picture.rgb().shape == (120, 160, 3)
    assert picture.luma().std() > 10


def test_the_end_of_a_live_stream_is_a_stall(require, camera_clip):
    with gstreamer(require, camera_clip) as address:
        items, error, seconds = read(RtspSource(f"rtsp://{address}", timeout_s=2))
    assert len(items) > 50
    assert isinstance(error, SourceStalled)
    assert seconds < 4.9


@pytest.mark.parametrize("credentials", [RAW, ENCODED])
def test_odd_credentials_open_a_camera(require, camera_clip, credentials):
    with gstreamer(require, camera_clip, USER, PASSWORD) as address:
        source = RtspSource(f"rtsp://{credentials}@{address}")
        assert isinstance(next(source.frames()), Frame)
        assert source.name == f"rtsp://***@{address}"


@pytest.mark.parametrize("prefix", ["", f"{USER}:canary-wrong@"])
def test_a_real_server_refuses(require, camera_clip, prefix):
    with gstreamer(require, camera_clip, USER, PASSWORD) as address:
        _, error, _ = read(RtspSource(f"rtsp://{prefix}{address}"))
    assert isinstance(error, SourceUnavailable)
    assert "authentication failed (401)" in str(error)
    assert not any(secret in printed(error) for secret in (*SECRETS, "canary"))


REFUSALS = {
    "authentication failed (401)": answer(
        "401 Unauthorized", 'WWW-Authenticate: Digest realm="x", nonce="0123"'
    ),
    "Server returned 404": answer("404 Not Found"),
    "Server returned 403": answer("403 Forbidden"),
    "Server returned 5XX": answer("503 Service Unavailable"),
    "Invalid data found": lambda _, connection: connection.sendall(b"\x00SSH-2.0\r\n\r\n" * 50),
    "cannot be opened": lambda _, connection: connection.close(),
}


@pytest.mark.parametrize("problem", REFUSALS)
@pytest.mark.parametrize("credentials", [RAW, ENCODED, f"{USER}:p/{PASSWORD}"])
def test_no_refusal_shows_credentials(problem, credentials, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with Server(REFUSALS[problem]) as server:
        uri = f"rtsp://{credentials}@127.0.0.1:{server.port}/live"
        source = open_source(uri, reconnect=False)
        items, error, seconds = read(source)
    assert items == []
    assert isinstance(error, SourceUnavailable)
    assert isinstance(error, SourceUnauthorized) is ("401" in problem or "403" in problem)
    assert seconds < 4
    assert problem in str(error)
    assert f"rtsp://***@127.0.0.1:{server.port}/live" in str(error)
    assert "\n" not in str(error)
    captured = capfd.readouterr()
    everything = " ".join(
        [printed(error), source.name, repr(source), caplog.text, captured.out, captured.err]
    )
    assert not [secret for secret in SECRETS if secret in everything]


def test_the_password_travels_as_it_was_meant():
    challenge = answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
    with Server(challenge) as server:
        read(RtspSource(f"rtsp://{RAW}@127.0.0.1:{server.port}/live"))
        sent = re.search(r"Authorization: Basic (\S+)", "".join(server.requests))
    assert base64.b64decode(sent[1]).decode() == f"{USER}:{PASSWORD}"


def test_a_refused_connection_and_an_unknown_host():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _, error, _ = read(RtspSource(f"rtsp://{RAW}@127.0.0.1:{port}/live"))
    assert isinstance(error, SourceUnavailable)
    assert "Connection refused" in str(error)
    assert not [secret for secret in SECRETS if secret in printed(error)]


def test_a_server_that_never_answers_is_given_up():
    with Server(silent) as server:
        uri = f"rtsp://{RAW}@127.0.0.1:{server.port}/live"
        _, error, seconds = read(RtspSource(uri, timeout_s=1.0))
        assert server.requests  # it was reached
    assert isinstance(error, SourceUnavailable)
    assert "no answer within 0.5 s" in str(error)
    assert seconds < 1.5
    assert not [secret for secret in SECRETS if secret in printed(error)]


@pytest.fixture(scope="module")
def coded(camera_clip):
    return parameter_sets(camera_clip), pictures(camera_clip)


@pytest.fixture(scope="module")
def whole(camera_clip):
    """Every brightness plane of the clip."""
    return [f.pixels.luma().copy() for f in VideoFileSource(camera_clip).frames()]


def test_the_pictures_of_a_camera_are_those_it_sent(coded, whole):
    sets, sent = coded
    with Server(playing(sets, sent)) as server:
        items, error, seconds = read(RtspSource(server.uri, timeout_s=0.8))
    assert isinstance(error, SourceStalled)
    assert "stopped: no answer within 0.8 s" in str(error)
    assert 0.8 <= seconds < 2
    # The last one stays in libav's parser, which waits for the start of the next.
    assert len(items) >= 74
    assert [f.index for f in items] == list(range(len(items)))
    for frame, luma in zip(items, whole, strict=False):
        np.testing.assert_array_equal(frame.pixels.luma(), luma)


def test_a_stream_joined_midway_starts_at_a_key_frame(coded, whole):
    sets, sent = coded
    with Server(playing(sets, sent[5:])) as server:
        items, _, _ = read(RtspSource(server.uri, timeout_s=0.8))
    assert len(items) >= 74 - 12
    assert (items[0].index, items[0].media_s) == (0, 0.0)
    np.testing.assert_array_equal(items[0].pixels.luma(), whole[12])


def test_a_stream_that_ends_has_stalled(coded):
    sets, sent = coded
    with Server(playing(sets, sent, close=True)) as server:
        items, error, seconds = read(RtspSource(server.uri, timeout_s=3))
    assert len(items) == 75
    assert isinstance(error, SourceStalled)
    assert "stopped: the server ended the stream" in str(error)
    assert seconds < 2


def test_damaged_pictures_are_counted_and_decoding_goes_on(coded, whole):
    sets, sent = coded
    damaged = [list(units) for units in sent]
    damaged[30] = [unit[: len(unit) // 2] for unit in damaged[30]]
    with Server(playing(sets, damaged, close=True)) as server:
        items, _, _ = read(RtspSource(server.uri, timeout_s=3))
    bad = [item.index for item in items if isinstance(item, BadFrame)]
    assert bad == list(range(30, 36))  # the damaged one, and those that refer to it
    assert [item.index for item in items] == list(range(75))
    np.testing.assert_array_equal(items[36].pixels.luma(), whole[36])  # the next key frame


def test_a_stream_without_key_frames_is_given_up(coded):
    sets, sent = coded
    deltas = [units for i, units in enumerate(sent) if i % 12] * 3
    with Server(playing(sets, deltas, every_s=0.02)) as server:
        items, error, seconds = read(RtspSource(server.uri, timeout_s=0.6))
    assert items == []
    assert isinstance(error, SourceStalled)
    # libav before FFmpeg 8.1 keeps such packets to itself.
    assert re.search("sent no key frame for 1.8 s|no answer within 0.6 s", str(error))
    assert seconds < 3.5


def test_a_camera_that_plays_nothing_is_given_up(coded):
    with Server(playing(coded[0], [])) as server:
        items, error, seconds = read(RtspSource(server.uri, timeout_s=0.8))
        assert any(request.startswith("PLAY") for request in server.requests)
    assert items == []
    assert isinstance(error, SourceUnavailable | SourceStalled)
    assert seconds < 3


def test_close_ends_a_dial_and_a_read_within_the_timeout(coded):
    for talk in (silent, playing(coded[0], []), playing(*coded)):
        with Server(talk) as server:
            source = RtspSource(server.uri, timeout_s=1.0)
            results = []
            reader = threading.Thread(target=lambda s=source, r=results: r.append(read(s)))
            reader.start()
            time.sleep(0.4)
            began = time.monotonic()
            source.close()
            assert time.monotonic() - began < 0.1
            reader.join(4)
            assert time.monotonic() - began < 1.2
        assert results[0][1] is None


@pytest.mark.parametrize(
    ("trusted", "host", "problem"),
    [
        (True, "127.0.0.1", "authentication failed (401)"),
        (False, "127.0.0.1", "is the certificate trusted here (SSL_CERT_FILE)"),
        (True, "localhost", "is the certificate trusted here (SSL_CERT_FILE)"),
    ],
)
def test_rtsps_checks_certificate_and_host(
    require, certificate, monkeypatch, trusted, host, problem
):
    if certificate is None:
        require("no openssl command (apt-get install openssl)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    challenge = answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
    with Server(challenge, context) as server:
        _, error, _ = read(RtspSource(f"rtsps://{RAW}@{host}:{server.port}/live"))
        sent = "".join(server.requests)
    assert isinstance(error, SourceUnavailable)
    assert problem in str(error)
    assert ("Authorization" in sent) is (problem == "authentication failed (401)")
    assert not [secret for secret in SECRETS if secret in printed(error)]


def test_a_libav_that_checks_no_certificates_is_not_used(monkeypatch):
    monkeypatch.setitem(av.library_versions, "libavformat", (61, 7, 100))
    with Server(silent) as server:
        _, error, _ = read(RtspSource(server.uri.replace("rtsp:", "rtsps:")))
        assert server.requests == []
    assert isinstance(error, SourceUnavailable)
    assert "pip install 'av>=16'" in str(error)


def test_a_timeout_must_be_positive():
    with pytest.raises(ConfigError, match="timeout_s must be positive, got 0"):
        RtspSource("rtsp://host/x", timeout_s=0)
    with pytest.raises(ConfigError, match="must start with rtsp://"):
        RtspSource("http://host/x")
