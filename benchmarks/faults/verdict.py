"""Is a stream that went through all that healthy, and does it owe an account of any frame?"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from edgevlm.event import AnswerEvent, Event, FaultEvent, StateEvent, SummaryEvent

BROKEN = ("stall", "source", "auth")


def problems(
    events: Sequence[Event], times_s: Sequence[float], store: Path, quiet_s: float
) -> list[str]:
    """What is wrong with a stream; empty when all is well.

    Args:
        events: all that it told, in order.
        times_s: stream time at which each was told.
        store: its event store, closed.
        quiet_s: stream time from which on nothing went wrong any more.
    """
    if not events or not isinstance(events[-1], SummaryEvent):
        return ["there is no summary at the end"]
    return [
        *_books(events[-1]),
        *_order(events),
        *_health(events, times_s, quiet_s),
        *_stored(events, store),
    ]


def _books(summary: SummaryEvent) -> list[str]:
    """The invariant, from the figures that were told."""
    f = summary.frames
    given = f.answered + f.reused + sum(f.dropped.values()) + f.failed
    if f.read == given and f.read > 0:
        return []
    return [f"{f.read} frames were read and {given} are accounted for"]


def _order(events: Sequence[Event]) -> list[str]:
    found = []
    if [event.seq for event in events] != list(range(len(events))):
        found.append("seq has a gap")
    told = [event for event in events if isinstance(event, AnswerEvent | StateEvent)]
    if any(a.monotonic_ns > b.monotonic_ns for a, b in pairwise(told)):
        found.append("monotonic times go back")
    answers = [event for event in told if isinstance(event, AnswerEvent)]
    if any(a.frame >= b.frame for a, b in pairwise(answers)):
        found.append("a frame is told of twice, or out of order")
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    fresh = sum(not event.reused for event in answers)
    if fresh != summary.frames.answered:
        found.append(f"{fresh} answers were told and {summary.frames.answered} counted")
    dropped = Counter[str]()
    for event in answers:
        dropped.update(event.dropped)
    if any(n > summary.frames.dropped.get(r, 0) for r, n in dropped.items()):  # type: ignore[call-overload]
        found.append("events tell of more drops than the summary")
    return found


def _health(events: Sequence[Event], times_s: Sequence[float], quiet_s: float) -> list[str]:
    """It answers in the quiet time, nothing is degraded, and every outage has its recovery."""
    late = [
        event for event, at_s in zip(events, times_s, strict=True)
        if at_s >= quiet_s and isinstance(event, AnswerEvent)
    ]  # fmt: skip
    found = []
    if not late:
        found.append("it answered nothing after the last fault")
    elif late[-1].degraded:
        found.append(f"it is degraded: {', '.join(late[-1].degraded)}")
    down = False
    for event in events:
        if isinstance(event, FaultEvent):
            down = (down or event.code in BROKEN) and event.code != "recovered"
    if down:
        found.append("its source has not recovered")
    return found


def _stored(events: Sequence[Event], store: Path) -> list[str]:
    """The store is whole, and lacks nothing but what was said to be lost."""
    with closing(sqlite3.connect(store)) as db:
        verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
        kept = {seq: json.loads(body) for seq, body in db.execute("SELECT seq, body FROM events")}
    found = [] if verdict == "ok" else [f"its store is damaged: {verdict}"]
    missing = [event for event in events if event.seq not in kept]
    if missing:
        found.append(f"its store lacks {len(missing)} events, the first {missing[0].kind}")
    changed = sum(kept.get(e.seq) not in (None, e.model_dump(mode="json")) for e in events)
    if changed:
        found.append(f"{changed} events are stored otherwise than they were told")
    return found
