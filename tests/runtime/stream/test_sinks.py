from __future__ import annotations

import json
import resource
import signal

import pytest

from edgevlm.errors import ConfigError, SinkError
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.run import _delivered
from edgevlm.runtime.stream.sinks import Sinks, Told, open_sink, open_sinks
from edgevlm.runtime.stream.sinks.jsonl import JsonLinesFileSink
from edgevlm.runtime.stream.store.query import find
from tests.runtime.stream.conftest import ListSource
from tests.runtime.stream.told import fault, told


class Failing:
    """A sink that says something at chosen events."""

    name = "failing"

    def __init__(self, at: set[int]) -> None:
        self.at, self.seen = at, []

    def write(self, told: Told) -> None:
        self.seen.append(told.event)
        if told.event.seq in self.at:
            raise SinkError(f"lost {told.event.seq}")

    def close(self) -> None:
        pass


def test_a_file_gets_one_object_a_line_and_is_appended_to(tmp_path):
    path = tmp_path / "events.jsonl"
    for seq in range(2):
        sink = open_sink(f"jsonl:{path}")
        sink.write(told(seq))
        sink.close()
        sink.close()
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_torn_last_line_spoils_no_other(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq": 7}\n{"seq": 8, "te')
    sink = JsonLinesFileSink(f"jsonl:{path}")
    sink.write(told(0))
    sink.close()
    lines = path.read_text().splitlines()
    assert lines[1] == '{"seq": 8, "te'
    assert json.loads(lines[2])["seq"] == 0


def test_a_full_disk_is_said_once_counted_and_recovered_from(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFileSink(f"jsonl:{path}")
    sink.write(told(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        with pytest.raises(SinkError, match="events are lost"):
            sink.write(told(1))
        sink.write(told(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    with pytest.raises(SinkError, match="2 events are lost"):
        sink.write(told(3))
    sink.write(told(4))
    sink.close()
    whole = []
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line)["seq"])
        except ValueError:
            assert len(line) == 10  # the torn one
    assert whole == [0, 3, 4]


def test_what_a_sink_says_becomes_a_fault_behind_the_event_and_the_others_get_both(
    config, clock, scripted
):
    stream = Stream(config(policy={"gate": False}), ListSource([50, 60], clock), scripted(), clock)
    failing, healthy = Failing({0}), Failing(set())
    events = list(_delivered(stream, Sinks([failing, healthy])))
    assert [(e.kind, e.seq) for e in events] == [
        ("answer", 0), ("fault", 1), ("answer", 2), ("summary", 3),
    ]  # fmt: skip
    assert (events[1].code, events[1].message) == ("sink", "lost 0")
    assert healthy.seen == events


def test_a_sink_that_fails_at_the_summary_fails_the_run_behind_it(config, clock, scripted):
    stream = Stream(config(), ListSource([50], clock), scripted(), clock)
    told_so_far = []
    with pytest.raises(SinkError, match="lost 1"):
        told_so_far.extend(_delivered(stream, Sinks([Failing({1})])))
    assert [e.kind for e in told_so_far] == ["answer", "summary"]


def test_the_store_is_a_sink(tmp_path):
    path = tmp_path / "events.db"
    with open_sinks([f"sqlite:{path}?days=0&megabytes=5&thumbnails=0"]) as opened:
        sinks = Sinks(opened)
        assert sinks.write(told(0)) == []
        assert sinks.write(fault(1)) == []
    assert [e.body["kind"] for e in find(path, thumbnails=True)] == ["answer", "fault"]


def test_a_damaged_store_is_said_with_the_first_event(tmp_path):
    path = tmp_path / "events.db"
    path.write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 40)
    with open_sinks([f"sqlite:{path}"]) as opened:
        sinks = Sinks(opened)
        (said,) = sinks.write(told(0))
        assert "put aside as events.db.corrupt-" in str(said)
        assert sinks.write(told(1)) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("events.db", "unknown sink 'events.db'"),
        ("carrier-pigeon:coop", "one of jsonl, sqlite"),
        ("sqlite:", "path of a file"),
        ("sqlite:x?years=3", "unknown option 'years'"),
        ("sqlite:x?days=many", "no number from 0"),
        ("sqlite:x?megabytes=-1", "no number from 0"),
    ],
)
def test_sinks_that_cannot_be(uri, message):
    with pytest.raises(ConfigError, match=message):
        open_sink(uri)


def test_a_sink_that_does_not_open_leaves_none_open(tmp_path):
    with (
        pytest.raises(SinkError, match="cannot be written"),
        open_sinks([f"sqlite:{tmp_path}/a.db", f"jsonl:{tmp_path}/nowhere/b"]),
    ):
        pass
    assert not (tmp_path / "a.db-wal").exists()  # the store was closed
