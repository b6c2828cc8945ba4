"""What changed between two moments: facts from the event store, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgevlm.conditions import Condition
from edgevlm.runtime.stream.store.facts import (
    MOST_CHANGES,
    Change,
    Evidence,
    StateChange,
    StreamChanges,
    in_words,
)
from edgevlm.runtime.stream.store.query import StoredEvent, find, stored_streams

_NEW = Condition("reused", "=", False)


def changes(
    path: Path, since_ms: int, until_ms: int, streams: Sequence[str] = ()
) -> list[StreamChanges]:
    """What changed from ``since_ms`` to before ``until_ms``, milliseconds since the Unix epoch.

    Answers count at the time when their frame was captured, states and faults when they were told.

    Args:
        path: the event store.
        since_ms: the beginning.
        until_ms: the end.
        streams: only these; none means all that the store knows.

    Returns:
        one entry a stream, by name.

    Raises:
        SinkError: no readable store.
    """
    found = []
    for name in sorted(set(streams or stored_streams(path))):
        only = [name]

        def before(question: str, only: Sequence[str] = only) -> Evidence | None:
            """The last answer to one of several questions, of before the beginning."""
            where = [_NEW, Condition("question", "=", question)]
            last = find(
                path,
                until_ms=since_ms,
                streams=only,
                kinds=["answer"],
                where=where,
                limit=1,
                thumbnails=True,
            )
            return next(map(_evidence, last), None)

        reader = _Reader(name, before)
        for event in find(path, until_ms=since_ms, streams=only, kinds=["state"]):
            reader.state_before(event)
        for event in find(path, until_ms=since_ms, streams=only, limit=1):
            reader.last_before(event)
        for event in find(
            path,
            until_ms=since_ms,
            streams=only,
            kinds=["answer"],
            where=[_NEW],
            limit=1,
            thumbnails=True,
        ):
            reader.found.before = reader.found.last = _evidence(event)
        for event in find(
            path, since_ms=since_ms, until_ms=until_ms, streams=only, thumbnails=True
        ):
            reader.within(event)
        found.append(reader.finished(since_ms))
    return found


class _Reader:
    """Goes through one stream's events in the order in which they were written.

    Args:
        name: of the stream.
        before: gives the last answer to a question of before the beginning.
    """

    def __init__(self, name: str, before: Callable[[str], Evidence | None]) -> None:
        self.found = StreamChanges(stream=name)
        self._before = before
        self._last: dict[str, Evidence | None] = {}  # answers by question
        self._open: dict[str, StateChange] = {}
        self._run: str | None = None
        self._over = False  # the last run has told its summary
        self._heard = ""  # the time of the last event that has one
        self._early = False  # something is kept of before the beginning

    def state_before(self, event: StoredEvent) -> None:
        """A state event of before the beginning."""
        self._watched(event, say=False)
        self._state(event, inside=False)

    def last_before(self, event: StoredEvent) -> None:
        """The last event of before the beginning."""
        self._early = True
        self._watched(event, say=False)

    def within(self, event: StoredEvent) -> None:
        """An event of the time that is asked about."""
        body, found = event.body, self.found
        self._watched(event, say=True)
        for reason, count in body.get("dropped", {}).items():
            _count(found.dropped, reason, count)
        if body["kind"] == "answer" and not body["reused"]:
            self._answer(_evidence(event))
        elif body["kind"] == "state":
            self._state(event, inside=True)
        elif body["kind"] == "fault":
            _count(found.faults, body["code"])

    def finished(self, since_ms: int) -> StreamChanges:
        """All that was found, states that are on behind those that ended."""
        found = self.found
        found.states += self._open.values()
        if not self._early:
            since = datetime.fromtimestamp(since_ms / 1000, tz=timezone.utc)
            found.doubts.insert(
                0, f"the store holds nothing of before {since:%Y-%m-%dT%H:%M:%SZ}: what was then"
                " is not known",
            )  # fmt: skip
        elif found.before is None:
            found.doubts.insert(0, "no answer of before is kept: what was then is not known")
        if self._run is None:
            found.doubts.append("no event at all")
        elif self._over:
            found.doubts.append(f"the run ended, last heard of at {self._heard or 'no known time'}")
        if count := sum(found.dropped.values()):
            found.doubts.append(f"{count} frames were not looked at")
        return found

    def _watched(self, event: StoredEvent, *, say: bool) -> None:
        run, body = event.id.split("/", 1)[0], event.body
        at = body.get("captured_at", "")
        if self._run not in (None, run) and say:
            how = "the run ended" if self._over else "a run broke off without its summary"
            until = f", the next one was first heard of at {at}" if at else ", another one followed"
            self.found.doubts.append(f"{how} after {self._heard or 'no known time'}{until}")
        if self._run != run:
            for state in self._open.values():  # a new run's rules begin without states
                state.ended = state.ended or self._heard or None
                if say:
                    self.found.states.append(state)
            self._open = {}
        self._run, self._over = run, body["kind"] == "summary"
        self._heard = at or self._heard

    def _answer(self, shown: Evidence) -> None:
        found, question = self.found, shown.question
        if question not in self._last:
            found.questions.append(question)
            one = found.before  # of any question, and nearly always of the only one
            known = one is not None and one.question in ("", question)
            self._last[question] = one if known else self._before(question)
        last, self._last[question] = self._last[question], shown
        found.answers += 1
        _count(found.said, in_words(shown.says))
        found.last = shown
        if last is None or last.says == shown.says:
            return
        found.different += 1
        if len(found.changes) < MOST_CHANGES:
            fields = _fields(last.says, shown.says)
            found.changes.append(Change(before=last, after=shown, fields=fields))

    def _state(self, event: StoredEvent, *, inside: bool) -> None:
        body, place = event.body, event.id.rsplit("/", 1)[0]
        key, at = body["state_id"], body["captured_at"]
        evidence = tuple(f"{place}/{seq}" for seq in body["evidence"])
        if body["phase"] == "begin":
            began = at if inside else None
            self._open[key] = StateChange(rule=body["rule"], began=began, evidence=evidence)
            return
        state = self._open.pop(key, StateChange(rule=body["rule"], evidence=evidence))
        if inside:
            state.ended = at
            self.found.states.append(state)


def _evidence(event: StoredEvent) -> Evidence:
    body = event.body
    return Evidence(
        id=event.id,
        at=body["captured_at"],
        frame=body["frame"],
        question=body.get("question", ""),
        says=body["text"].strip() if body["answer"] is None else body["answer"],
        pictured=event.thumbnail is not None,
    )


def _count(counts: dict[str, int], what: str, times: int = 1) -> None:
    counts[what] = counts.get(what, 0) + times


def _fields(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return {}
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }
