"""What changed, from real stores: facts, and what is not known about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.compose import state_event, summary_event
from edgevlm.runtime.stream.rules import Change
from edgevlm.runtime.stream.sinks.base import Told
from edgevlm.runtime.stream.store.changes import changes
from edgevlm.runtime.stream.store.changes_told import sentence
from edgevlm.runtime.stream.store.facts import StreamChanges
from edgevlm.runtime.stream.store.writer import EventStore
from tests.runtime.stream.conftest import ManualClock
from tests.runtime.stream.told import START_NS, fault, told

START_MS = START_NS // 1_000_000


class Wall(ManualClock):
    """A wall clock at the beginning of 2026, where ``told`` has its frames."""

    def wall_ns(self) -> int:
        return START_NS + self.now_ns - 1_000_000_000


def state(seq: int, phase: Any, at_s: float, state_id: str = "crowd-1") -> Told:
    shown = told(seq, at_s=at_s)
    change = Change(rule="crowd", phase=phase, state_id=state_id, held_s=0.0, evidence=(seq - 1,))
    return Told(state_event(change, shown.event), shown.frame)  # type: ignore[arg-type]


def summary(seq: int) -> Told:
    return Told(summary_event("main", seq, Account(), 1.0))


def store(path: Path, items: Iterable[tuple[float, Told]]) -> None:
    """One run; states, faults and summaries are stamped by the clock as they are told."""
    clock = Wall()
    made = EventStore(path, clock=clock)
    for at_s, item in items:
        clock.now_ns = 1_000_000_000 + round(at_s * 1e9)
        made.add(item.event, item.frame)
    made.close()


def found(path: Path, since_s: float, until_s: float = 1e6) -> StreamChanges:
    (one,) = changes(path, START_MS + round(since_s * 1e3), START_MS + round(until_s * 1e3))
    return one


def says(*given: tuple[float, str]) -> list[tuple[float, Told]]:
    return [(at_s, told(n, text, at_s=at_s)) for n, (at_s, text) in enumerate(given)]


def test_answers_that_differ_are_changes_with_their_evidence(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, says((0, "a cat"), (10, "a cat"), (20, "a dog"), (30, "a dog"), (40, "a cat")))
    one = found(path, 5)
    assert (one.answers, one.different) == (4, 2)
    assert [(c.before.says, c.after.says, c.after.frame) for c in one.changes] == [
        ("a cat", "a dog", 2), ("a dog", "a cat", 4),
    ]  # fmt: skip
    assert one.before is not None
    assert (one.before.says, one.before.frame) == ("a cat", 0)
    assert all(c.after.pictured and c.after.id.endswith(f"/main/{c.after.frame}")
               for c in one.changes)  # fmt: skip
    assert one.said == {"a cat": 2, "a dog": 2}
    assert one.doubts == []
    assert sentence(one) == (
        'main: "a cat" became "a dog" at 2026-01-01T00:00:20.000Z; '
        '"a dog" became "a cat" at 2026-01-01T00:00:40.000Z.'
    )


def test_of_objects_the_fields_that_differ_are_named(tmp_path: Path):
    path = tmp_path / "events.db"
    doors = [{"door": "open", "people": 1}, {"door": "open", "people": 3}]
    store(path, [(n, told(n, "", at_s=n, answer=d)) for n, d in enumerate(doors)])
    assert found(path, 0.5).changes[0].fields == {"people": (1, 3)}
    assert "door open, people 1 became door open, people 3" in sentence(found(path, 0.5))


def test_the_end_is_not_included(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, says((0, "a cat"), (10, "a dog"), (20, "a cow")))
    assert found(path, 5, 20).different == 1


def test_states_that_begin_end_or_were_on(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, [
        (0, told(0)), (1, state(1, "begin", 1, "crowd-1")), (20, state(2, "end", 20, "crowd-1")),
        (30, state(3, "begin", 30, "crowd-2")),
    ])  # fmt: skip
    ended, on = found(path, 10).states
    assert (ended.rule, ended.began, ended.ended) == ("crowd", None, "2026-01-01T00:00:20.000Z")
    assert (on.began, on.ended) == ("2026-01-01T00:00:30.000Z", None)
    assert on.evidence[0].endswith("/main/2")
    assert "crowd was on from the beginning and ended at 2026" in sentence(found(path, 10))


def test_nothing_new_is_said_as_nothing_new(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, says((0, "a cat"), (10, "a cat")))
    assert sentence(found(path, 5)).startswith('main: nothing changed, 1 new answers all say "a')
    assert "no new answer; the last one, of 2026-01-01T00:00:10.000Z" in sentence(found(path, 60))


def test_an_answer_is_compared_with_the_last_one_to_its_own_question(tmp_path: Path):
    path = tmp_path / "events.db"
    colour, count = "Which colour?", "How many?"
    given = [(0, "red", colour), (1, "two", count), (2, "red", colour), (3, "two", count)]
    stored = [
        (at_s, told(n, text, at_s=at_s, question=question))
        for n, (at_s, text, question) in enumerate([*given, (4, "six", count)])
    ]
    store(path, stored)
    whole = found(path, 0.5)
    assert (whole.answers, whole.different, whole.questions) == (4, 1, [count, colour])
    assert 'main: How many? "two" became "six" at 2026' in sentence(whole)
    assert "nothing changed in 2 new answers to 2 questions" in sentence(found(path, 1.5, 3.5))
    assert found(path, 3.5).changes[0].before.at == "2026-01-01T00:00:03.000Z"


def test_a_store_that_begins_later_knows_nothing_of_before(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, says((100, "a cat"), (110, "a dog")))
    one = found(path, 5)
    assert one.before is None
    assert one.doubts == [
        "the store holds nothing of before 2026-01-01T00:00:05Z: what was then is not known"
    ]


def test_times_that_nobody_watched_are_said(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, [(0, told(0)), (5, summary(1))])
    store(path, [(50, told(0, "a dog", at_s=50)), (51, state(1, "begin", 51))])
    store(path, [(90, told(0, "a dog", at_s=90)), (95, summary(1))])
    one = found(path, 2)
    assert one.doubts == [
        "the run ended after 2026-01-01T00:00:00.000Z, the next one was first heard of at "
        "2026-01-01T00:00:50.000Z",
        "a run broke off without its summary after 2026-01-01T00:00:51.000Z, the next one was "
        "first heard of at 2026-01-01T00:01:30.000Z",
        "the run ended, last heard of at 2026-01-01T00:01:30.000Z",
    ]
    (crowd,) = one.states  # it ended with its run, when that was last heard of
    assert crowd.ended == "2026-01-01T00:00:51.000Z"


def test_drops_and_faults_are_counted(tmp_path: Path):
    path = tmp_path / "events.db"
    late = told(1, "a dog", at_s=10)
    dropped = late.event.model_copy(update={"dropped": {"superseded": 7}})
    store(path, [(0, told(0)), (10, Told(dropped, late.frame)), (11, fault(2))])
    one = found(path, 5)
    assert one.faults == {"stall": 1}
    assert one.doubts == ["7 frames were not looked at"]
    assert sentence(one).endswith("; 1 times stall. But 7 frames were not looked at.")


def test_many_changes_are_counted_and_the_middle_is_left_out(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, says(*((float(n), "a cat" if n % 2 else "a dog") for n in range(80))))
    one = found(path, 0.5)
    assert (one.different, len(one.changes)) == (79, 50)
    assert "74 further changes, the last answer says" in sentence(one)


def test_each_stream_stands_alone_and_an_unknown_one_is_named(tmp_path: Path):
    path = tmp_path / "events.db"
    store(path, [(0, told(0)), (1, told(0, "a bus", at_s=1, stream="door"))])
    assert [one.stream for one in changes(path, START_MS, START_MS + 9000)] == ["door", "main"]
    (missing,) = changes(path, START_MS, START_MS + 9000, ["gate"])
    assert "no event at all" in sentence(missing)
    with pytest.raises(SinkError, match="no such event store"):
        changes(tmp_path / "none.db", 0, 1)
