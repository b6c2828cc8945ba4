from __future__ import annotations

import io
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from edgevlm.errors import ConfigError, SinkError
from edgevlm.runtime.stream.store.query import Condition, find, moment_ms
from edgevlm.runtime.stream.store.retention import Retention
from edgevlm.runtime.stream.store.writer import WAITING_AT_MOST, EventStore
from tests.runtime.stream.told import START_NS, fault, told

DAY_S = 86_400


def filled(path: Path, tolds, clock, **options) -> Path:
    store = EventStore(path, clock=clock, **options)
    for item in tolds:
        store.add(item.event, item.frame)
    store.close()
    return path


def bodies(path: Path, **filters) -> list[dict]:
    return [event.body for event in find(path, **filters)]


def test_events_come_back_as_they_were_told(tmp_path, clock):
    given = [told(0), told(1, "a dog", answer={"person": True}), fault(2)]
    path = filled(tmp_path / "events.db", given, clock)
    assert bodies(path) == [t.event.model_dump(mode="json") for t in given]


def test_a_new_answer_has_a_small_picture_of_its_frame(tmp_path, clock):
    path = filled(tmp_path / "events.db", [told(0), fault(1)], clock)
    answer, other = find(path, thumbnails=True)
    assert answer.thumbnail is not None
    picture = Image.open(io.BytesIO(answer.thumbnail))
    assert picture.size == (160, 90)
    assert abs(picture.convert("L").getpixel((80, 45)) - 99) <= 2
    assert other.thumbnail is None


def test_runs_share_a_file_and_every_event_has_an_id_of_its_own(tmp_path, clock):
    path = tmp_path / "events.db"
    filled(path, [told(0)], clock)
    filled(path, [told(0), told(0, stream="door")], clock)
    ids = [event.id for event in find(path)]
    assert len(set(ids)) == 3
    assert [i.split("/", 1)[1] for i in ids] == ["main/0", "main/0", "door/0"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("answer.person = true", [1]),
        ("answer.person == false", [2]),
        ("answer.person != true", [2]),
        ("answer.count > 1", [2]),
        ("answer.count >= 1", [1, 2]),
        ("answer.label = red", [1]),
        ("answer.label != red", [2]),
        ('answer.label = "blue"', [2]),
        ("answer.label > 3", []),
        ("answer = null", [0]),
        ("answer != null", [1, 2]),
        ("text ~ CAT", [0]),
        ("kind = fault", [3]),
        ("answer.label = '", []),
    ],
)
def test_conditions_on_the_fields_of_an_event(tmp_path, clock, condition, found):
    given = [
        told(0, "a cat"),
        told(1, "x", answer={"person": True, "count": 1, "label": "red"}),
        told(2, "y", answer={"person": False, "count": 2, "label": "blue"}),
        fault(3),
    ]
    path = filled(tmp_path / "events.db", given, clock)
    assert [b["seq"] for b in bodies(path, where=[Condition.parse(condition)])] == found


@pytest.mark.parametrize("text", ["", "person", "= 3", "a..b = 1", "a = [1]", "a = {}", "1a = 2"])
def test_conditions_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="the condition"):
        Condition.parse(text)


def test_events_of_a_time_a_stream_and_a_kind(tmp_path, clock):
    given = [told(n, at_s=n, stream="door" if n % 2 else "main") for n in range(6)]
    path = filled(tmp_path / "events.db", given, clock)
    begin = START_NS // 1_000_000
    found = bodies(path, since_ms=begin + 1000, until_ms=begin + 4000)
    assert [b["seq"] for b in found] == [1, 2, 3]
    assert [b["seq"] for b in bodies(path, streams=["door"])] == [1, 3, 5]
    assert [b["seq"] for b in bodies(path, limit=2)] == [4, 5]
    assert bodies(path, kinds=["summary"]) == []


def test_a_moment_is_a_time_or_so_long_ago():
    from datetime import datetime, timezone

    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert moment_ms("1d", now) == START_NS // 1_000_000
    assert moment_ms("2026-01-01T00:00:00Z") == START_NS // 1_000_000
    assert moment_ms("2026-01-01T01:00:00+01:00") == START_NS // 1_000_000
    with pytest.raises(ConfigError, match="'yesterday' is no time"):
        moment_ms("yesterday")


def test_old_events_go_and_their_pictures_with_them(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, Retention(days=1), clock=clock)
    for n in range(3):
        store.add(told(n).event, told(n).frame)
        clock.advance(0.7 * DAY_S)
    store.add(told(3).event, told(3).frame)
    store.close()
    assert [b["seq"] for b in bodies(path)] == [2, 3]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM thumbnails").fetchone() == (2,)


def test_a_jump_of_the_wall_clock_deletes_nothing(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, Retention(days=1), clock=clock)
    store.add(told(0).event)
    real = clock.wall_ns
    for jump_s in (14 * DAY_S, -50 * 365 * DAY_S):
        clock.wall_ns = lambda jump_s=jump_s: max(0, real() + jump_s * 10**9)
        clock.advance(2)
        store.add(told(1 if jump_s > 0 else 2).event)
    store.close()
    clock.wall_ns = lambda: 0  # a board without a battery, after a restart
    filled(path, [told(3)], clock, retention=Retention(days=1))
    assert [b["seq"] for b in bodies(path)] == [0, 1, 2, 3]


def test_a_size_is_kept_to_by_giving_up_pictures_first(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, Retention(days=None, megabytes=0.25), clock=clock)
    for n in range(600):
        store.add(told(n).event, told(n).frame)
        clock.advance(1.1)
    store.close()
    with closing(sqlite3.connect(path)) as db:
        pictures = db.execute("SELECT count(*), min(event) FROM thumbnails").fetchone()
        events, first = db.execute("SELECT count(*), min(id) FROM events").fetchone()
    assert 0 < events < 600
    assert pictures[0] < events
    assert first == 600 - events + 1  # the newest stay, without a gap
    assert path.stat().st_size < 0.45e6


@contextmanager
def no_file_over(size: int):
    """A full disk: no file of this process may grow over ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def complaint(store: EventStore, seq: int, clock=None) -> str:
    """Add an event with a picture and give what the store has to say about it."""
    if clock is not None:
        clock.advance(2)
    try:
        store.add(told(seq).event, told(seq).frame)
    except SinkError as exc:
        return str(exc)
    return ""


def test_events_wait_while_the_disk_is_full_and_are_written_when_it_is_not(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, clock=clock)
    store.add(told(0).event)
    size = max(f.stat().st_size for f in tmp_path.iterdir())
    with no_file_over(size):
        said = [(n, text) for n in range(1, 9) if (text := complaint(store, n, clock))]
    assert len(said) == 1
    assert "events wait in memory" in said[0][1]
    assert "written again; 0 events are lost" in complaint(store, 9, clock)
    store.close()
    assert [b["seq"] for b in bodies(path)] == list(range(10))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_more_than_memory_takes_is_lost_counted_and_said(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, clock=clock)
    store.add(told(0).event)
    size = max(f.stat().st_size for f in tmp_path.iterdir())
    last = WAITING_AT_MOST + 20
    with no_file_over(size):
        said = [text for n in range(1, last) if (text := complaint(store, n))]
    assert len(said) == 1
    assert re.search(r"written again; \d+ events are lost", complaint(store, last, clock))
    store.close()
    kept = [b["seq"] for b in bodies(path)]
    assert kept[-1] == last
    assert WAITING_AT_MOST <= len(kept) < last


def test_events_that_cannot_be_written_at_the_end_are_said_to_be_lost(tmp_path, clock):
    store = EventStore(tmp_path / "events.db", clock=clock)
    store.add(told(0).event)
    size = max(f.stat().st_size for f in tmp_path.iterdir())
    with no_file_over(size):
        assert any([complaint(store, n) for n in range(1, 9)])
        with pytest.raises(SinkError, match=r"\d events are lost"):
            store.close()
    store.close()


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path, clock, damage):
    path = filled(tmp_path / "events.db", [told(n) for n in range(50)], clock)
    raw = bytearray(path.read_bytes())
    if damage == "header":
        raw[:100] = os.urandom(100)
    else:
        raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)
    store = EventStore(path, clock=clock)
    store.add(told(0).event)
    store.close()
    assert store.quarantined is not None
    assert store.quarantined.read_bytes() == raw
    assert [b["seq"] for b in bodies(path)] == [0]


def test_another_programs_database_is_refused_and_left_alone(tmp_path, clock):
    path = tmp_path / "others.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(SinkError, match="another program"):
        EventStore(path, clock=clock)
    with pytest.raises(SinkError, match="another program"):
        list(find(path))
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_and_a_store_that_is_not_there(tmp_path, clock):
    with pytest.raises(SinkError, match="cannot be written"):
        EventStore(tmp_path / "nowhere" / "events.db", clock=clock)
    with pytest.raises(SinkError, match="no such event store"):
        list(find(tmp_path / "events.db"))


WRITER = """
import sys
from pathlib import Path
from edgevlm.runtime.stream.store.writer import EventStore
from tests.runtime.stream.told import told
store = EventStore(Path(sys.argv[1]))
for n in range(100_000):
    item = told(n)
    store.add(item.event, item.frame)
    print(n, flush=True)
"""


def test_a_killed_writer_leaves_everything_that_it_had_told(tmp_path):
    path = tmp_path / "events.db"
    root = Path(__file__).parents[3]
    for delay_s in (0.0, 0.013, 0.041):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(delay_s)
        child.kill()
        last = int((first + child.stdout.read()).split("\n")[-2])
        child.stdout.close()
        child.wait(timeout=10)
        run = [event for event in find(path)][-1].id.split("/")[0]
        kept = [e.body["seq"] for e in find(path) if e.id.startswith(run)]
        assert kept == list(range(len(kept)))
        assert len(kept) >= last + 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_reader_meets_a_writer_at_work(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, clock=clock)
    store.add(told(0).event)
    store.add(told(1).event)
    reading = find(path)
    assert next(reading).body["seq"] == 0
    store.add(told(2).event)
    assert [e.body["seq"] for e in reading] == [1]  # what was there when it began
    store.close()
