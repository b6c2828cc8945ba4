from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.sinks import open_sink
from tests.conftest import missing
from tests.runtime.delivery.test_outbox import until
from tests.runtime.stream.told import told

ROOT = Path(__file__).parents[3]


class Broker:
    """A real Mosquitto on a port of its own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            missing("mosquitto is not installed (Debian package mosquitto)")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self.users = folder / "users"
        self._lines = [f"listener {self.port} 127.0.0.1", "user root", "allow_anonymous true"]
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> Broker:
        lines = [line for line in self._lines if not (more and line.startswith("allow"))]
        self._config.write_text("\n".join([*lines, *more]) + "\n")
        self._child = subprocess.Popen(
            [self._program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait(10)
            self._child = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.stop()


class Listener:
    """A subscriber of its own, as somebody else's program would be."""

    def __init__(self, port: int, topic: str = "site/door/#") -> None:
        self.got: list[tuple[str, bytes, dict, bool]] = []
        self._ready = False
        self._client = client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, client_id=""
        )
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: setattr(self, "_ready", True)
        client.connect("127.0.0.1", port)
        client.subscribe(topic, qos=1)
        client.loop_start()
        until(lambda: self._ready)

    def _on_message(self, _client, _data, m) -> None:
        user = dict(getattr(m.properties, "UserProperty", []))
        self.got.append((m.topic, m.payload, user, m.retain))

    def status(self) -> list[bytes]:
        return [payload for topic, payload, _, _ in self.got if topic.endswith("/status")]

    def events(self) -> list[dict]:
        return [json.loads(p) for topic, p, _, _ in self.got if topic.endswith("/events")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def make(*args) -> Listener:
        made.append(Listener(*args))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def uri(broker: Broker, tmp_path: Path, more: str = "") -> str:
    return f"mqtt://127.0.0.1:{broker.port}/site/door#outbox={tmp_path}/out.db&timeout=2{more}"


def test_events_arrive_with_their_ids_between_online_and_offline(broker, listen, tmp_path):
    broker.start()
    listener = listen(broker.port)
    sink = open_sink(uri(broker, tmp_path))
    for n in range(50):
        sink.write(told(n))
    until(lambda: len(listener.events()) == 50)
    sink.close()
    until(lambda: len(listener.status()) == 2)
    assert listener.status() == [b"online", b"offline"]
    assert [event["seq"] for event in listener.events()] == list(range(50))
    ids = [user["event"] for topic, _, user, _ in listener.got if topic.endswith("/events")]
    assert len(set(ids)) == 50
    assert ids[7].endswith("/main/7")


def test_the_status_is_retained_for_whoever_comes_later(broker, listen, tmp_path):
    broker.start()
    sink = open_sink(uri(broker, tmp_path))
    sink.write(told(0))
    early = listen(broker.port)
    until(lambda: early.status() == [b"online"])
    sink.close()
    late = listen(broker.port)
    until(lambda: late.status() == [b"offline"])
    assert late.got[0][3] is True


def test_a_broker_that_comes_late_and_one_that_is_restarted_get_everything(
    broker, listen, tmp_path, monkeypatch
):
    monkeypatch.setattr("edgevlm.runtime.stream.delivery.courier.FIRST_RETRY_S", 0.1)
    monkeypatch.setattr("edgevlm.runtime.stream.delivery.courier.LONGEST_RETRY_S", 0.3)
    seqs, last = iter(range(10_000_000)), -1
    said: list[str] = []

    def write() -> bool:
        nonlocal last
        last = next(seqs)
        try:
            sink.write(told(last))
        except SinkError as exc:
            said.append(str(exc))
        return bool(said)

    sink = open_sink(uri(broker, tmp_path))
    until(write)
    assert "no connection" in said.pop()
    broker.start()
    until(write)
    assert "delivery goes on" in said.pop()
    listener = listen(broker.port)
    until(lambda: listener.status() == [b"online"])
    write()
    until(lambda: len(listener.events()) >= 1)
    before = listener.events()[-1]["seq"]
    broker.stop()
    said.clear()
    until(write)
    broker.start()
    again = listen(broker.port)
    until(lambda: b"online" in again.status())  # the birth comes again
    write()
    until(lambda: any(e["seq"] == last for e in listener.events() + again.events()))
    seen = {e["seq"] for e in listener.events() + again.events()}
    assert set(range(before, last + 1)) <= seen
    sink.close()


SENDER = """
import sys, time
from edgevlm.runtime.stream.sinks import open_sink
from tests.runtime.stream.told import told
sink = open_sink(sys.argv[1])
sink.write(told(0))
print("written", flush=True)
time.sleep(60)
"""


def test_the_broker_says_offline_when_the_run_is_killed(broker, listen, tmp_path):
    broker.start()
    listener = listen(broker.port)
    child = subprocess.Popen(
        [sys.executable, "-c", SENDER, uri(broker, tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    until(lambda: len(listener.events()) == 1, 30)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert child.stdout is not None
    child.stdout.close()
    until(lambda: listener.status() == [b"online", b"offline"])


def test_a_wrong_password_is_told_and_never_shown(broker, tmp_path, monkeypatch):
    passwords = shutil.which("mosquitto_passwd", path="/usr/sbin:/usr/bin")
    if passwords is None:
        missing("mosquitto_passwd is not installed (Debian package mosquitto)")
    subprocess.run([passwords, "-b", "-c", str(broker.users), "door", "right"], check=True)
    broker.users.chmod(0o644)
    broker.start("allow_anonymous false", f"password_file {broker.users}")
    monkeypatch.setenv("DOOR_PASSWORD", "canary")
    address = uri(broker, tmp_path, "&password_env=DOOR_PASSWORD").replace("//", "//door@", 1)
    sink = open_sink(address)
    said: list[str] = []

    def told_off() -> bool:
        try:
            sink.write(told(0))
        except SinkError as exc:
            said.append(str(exc))
        time.sleep(0.05)
        return bool(said)

    until(told_off)
    assert "the broker refuses: Not authorized" in said[0]
    with pytest.raises(SinkError, match="events wait in") as caught:
        sink.close()
    assert "canary" not in said[0] + str(caught.value)
