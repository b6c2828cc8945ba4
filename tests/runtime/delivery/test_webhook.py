from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgevlm.errors import ConfigError, SinkError
from edgevlm.runtime.stream.delivery.courier import Refused, Undelivered
from edgevlm.runtime.stream.delivery.outbox import Message
from edgevlm.runtime.stream.delivery.uri import Receiver
from edgevlm.runtime.stream.sinks import open_sink
from edgevlm.runtime.stream.sinks.webhook import OPTIONS, HttpChannel
from tests.runtime.delivery.test_outbox import until
from tests.runtime.stream.told import told


class Endpoint(ThreadingHTTPServer):
    """A real HTTP server that answers as it is told and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def channel(uri: str, secret: str | None = None) -> HttpChannel:
    return HttpChannel(Receiver.parse(uri, OPTIONS), secret, 2.0, clock=lambda: 1_800_000_000.4)


def message(n: int) -> Message:
    return Message(n, f"run/main/{n}", f'{{"seq":{n}}}')


def test_events_are_posted_signed_over_one_connection(endpoint):
    post = channel(f"{endpoint.address}/hook?site=3", "geheim")
    post.deliver([message(0), message(1)])
    post.close()
    assert [(path, body) for path, _, body in endpoint.got] == [
        ("/hook?site=3", b'{"seq":0}'), ("/hook?site=3", b'{"seq":1}'),
    ]  # fmt: skip
    assert endpoint.connections == 1
    headers = endpoint.got[1][1]
    assert headers["X-Edgevlm-Event"] == "run/main/1"
    stamp, mac = headers["X-Edgevlm-Signature"].split(",")
    assert stamp == "t=1800000000"
    expected = hmac.new(b"geheim", b'1800000000.{"seq":1}', hashlib.sha256).hexdigest()
    assert mac == f"v1={expected}"


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, Undelivered), (503, Undelivered), (429, Undelivered), (408, Undelivered),
     (400, Refused), (401, Refused), (404, Refused), (301, Refused)],
)  # fmt: skip
def test_answers_that_another_try_may_mend_and_others(endpoint, status, error):
    endpoint.answers = [(204, {}), (status, {"Retry-After": "7", "Location": "/elsewhere"})]
    post = channel(endpoint.address)
    with pytest.raises(error, match=str(status)) as caught:
        post.deliver([message(0), message(1), message(2)])
    post.close()
    assert caught.value.taken == 1
    assert len(endpoint.got) == 2
    if error is Undelivered:
        assert caught.value.wait_s == 7


def test_nobody_listening_and_a_receiver_that_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hung = HttpChannel(Receiver.parse(f"http://127.0.0.1:{port}/", OPTIONS), None, 0.2)
        with pytest.raises(Undelivered, match="timed out"):
            hung.deliver([message(0)])
    with pytest.raises(Undelivered, match="no answer"):
        channel(f"http://127.0.0.1:{port}/").deliver([message(0)])


def test_a_connection_that_the_receiver_closed_is_made_again(endpoint):
    post = channel(endpoint.address)
    endpoint.answers = [(204, {"Connection": "close"})]
    post.deliver([message(0)])
    post.deliver([message(1)])
    post.close()
    assert len(endpoint.got) == 2


def test_the_sink_delivers_a_run_with_its_secret_by_reference(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", "canary")
    uri = f"{endpoint.address}/hook#secret_env=HOOK_SECRET&outbox={tmp_path}/out.db"
    sink = open_sink(uri)
    assert "canary" not in sink.name
    for n in range(3):
        sink.write(told(n))
    until(lambda: len(endpoint.got) == 3)
    sink.close()
    assert [json.loads(body)["seq"] for _, _, body in endpoint.got] == [0, 1, 2]
    assert all("X-Edgevlm-Signature" in headers for _, headers, _ in endpoint.got)


def test_a_refusal_that_nobody_heard_of_is_said_at_the_end(endpoint, tmp_path):
    endpoint.answers = [(422, {})]
    sink = open_sink(f"{endpoint.address}/#outbox={tmp_path}/out.db")
    sink.write(told(0))
    with pytest.raises(SinkError, match="main/0 is lost: the receiver answers 422"):
        sink.close()


def complaint(sink) -> list[str]:
    try:
        sink.write(told(1))
    except SinkError as exc:
        return [str(exc)]
    return []


def test_a_refused_event_is_a_fault_that_names_it(endpoint, tmp_path):
    endpoint.answers = [(422, {})]
    sink = open_sink(f"{endpoint.address}/#outbox={tmp_path}/out.db")
    sink.write(told(0))
    until(lambda: len(endpoint.got) == 1)
    said = []
    until(lambda: said or said.extend(complaint(sink)))
    assert "main/0 is lost: the receiver answers 422" in said[0]
    sink.close()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http:///hook", "names no host"),
        ("https://host:99999/", "[Pp]ort"),
        ("https://u:canary@host/", r"\*\*\*@host/: a password does not belong"),
        ("https://host/#colour=red", "unknown option 'colour'"),
        ("https://host/#secret_env=NOT_THERE_1", "environment has no NOT_THERE_1"),
        ("https://host/#timeout=0", "no time from 0 to 60"),
        ("https://host/#timeout=soon", "no time from 0 to 60"),
    ],
)
def test_receivers_that_cannot_be(uri, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_sink(uri)
    assert "canary" not in str(caught.value)
