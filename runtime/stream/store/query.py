"""Read events back: by time, stream, kind, and by the fields of the event itself."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edgevlm.conditions import Condition
from edgevlm.errors import ConfigError, SinkError
from edgevlm.runtime.stream.store.schema import open_for_reading

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it was told, with its id in the store."""

    id: str
    body: dict[str, Any]
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are meant; arguments as in ``find``."""

    since_ms: int | None = None
    until_ms: int | None = None
    streams: Sequence[str] = ()
    kinds: Sequence[str] = ()
    where: Sequence[Condition] = ()

    def sql(self) -> tuple[str, list[Any]]:
        """A condition on the table ``events``, and its parameters; "1" where all are meant."""
        tests: list[str] = []
        values: list[Any] = []
        for test, value in (("at_ms >= ?", self.since_ms), ("at_ms < ?", self.until_ms)):
            if value is not None:
                tests.append(test)
                values.append(value)
        for column, wanted in (("stream", self.streams), ("kind", self.kinds)):
            if wanted:
                tests.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        for condition in self.where:
            test, needed = condition_sql(condition)
            tests.append(test)
            values += needed
        return " AND ".join(tests) or "1", values


def condition_sql(condition: Condition) -> tuple[str, list[Any]]:
    """A condition as SQL with its parameters; it selects what ``Condition.holds`` is True for."""
    place = "$" + "".join(f'."{part}"' for part in condition.path.split("."))
    field, operator, value = "json_extract(body, ?)", condition.operator, condition.value
    if operator == "~":
        test = f"(json_type(body, ?) = 'text' AND instr(lower({field}), lower(?)) > 0)"
        return test, [place, place, str(value)]
    if value is None:
        test = "= 'null'" if operator == "=" else "!= 'null'"
        return f"json_type(body, ?) {test}", [place]
    # SQLite orders all numbers before all texts: a text is not over 3
    same_type = "json_type(body, ?) IN ('true', 'false', 'integer', 'real')"
    if isinstance(value, str):
        same_type = "json_type(body, ?) = 'text'"
    return f"({same_type} AND {field} {operator} ?)", [place, place, value]


def moment_ms(text: str, now: datetime | None = None) -> int:
    """Milliseconds since the Unix epoch of ``2026-01-31T12:00:00Z``, or of ``90m`` ago.

    Raises:
        ConfigError: neither.
    """
    now = now or datetime.now(tz=timezone.utc)
    if ago := _AGO.fullmatch(text.strip()):
        then = now - timedelta(seconds=float(ago[1]) * _UNIT_S[ago[2]])
    else:
        try:
            then = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        except ValueError as exc:
            raise ConfigError(
                f"{text!r} is no time: give 2026-01-31T12:00:00Z, or 30s, 15m, 2h, 7d ago"
            ) from exc
        if then.tzinfo is None:
            then = then.astimezone()
    return round(then.timestamp() * 1000)


def find(
    path: Path,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    streams: Sequence[str] = (),
    kinds: Sequence[str] = (),
    where: Sequence[Condition] = (),
    limit: int | None = None,
    thumbnails: bool = False,
) -> Iterator[StoredEvent]:
    """Events in the order in which they were written; a run may be writing meanwhile.

    Args:
        path: the store.
        since_ms: the earliest time, as ``moment_ms`` gives it.
        until_ms: the first time that is too late.
        streams: only these; none means all.
        kinds: only these; none means all.
        where: conditions that all hold.
        limit: the newest so many.
        thumbnails: read the pictures too.

    Raises:
        SinkError: no readable store.
    """
    test, values = Selection(since_ms, until_ms, streams, kinds, where).sql()
    picture = "(SELECT jpeg FROM thumbnails WHERE event = e.id)" if thumbnails else "NULL"
    newest = f"SELECT * FROM events WHERE {test} ORDER BY id DESC LIMIT ?"
    query = f"SELECT run, stream, seq, body, {picture} FROM ({newest}) AS e ORDER BY id"
    with closing(open_for_reading(path)) as db:
        try:
            for run, stream, seq, body, jpeg in db.execute(
                query, [*values, -1 if limit is None else limit]
            ):
                yield StoredEvent(f"{run}/{stream}/{seq}", json.loads(body), jpeg)
        except sqlite3.DatabaseError as exc:
            raise SinkError(f"{path} cannot be read: {exc}") from exc


def stored_streams(path: Path) -> list[str]:
    """Names of all streams that have events in a store, sorted.

    Raises:
        SinkError: no readable store.
    """
    with closing(open_for_reading(path)) as db:
        try:
            found = db.execute("SELECT DISTINCT stream FROM events ORDER BY stream").fetchall()
        except sqlite3.DatabaseError as exc:
            raise SinkError(f"{path} cannot be read: {exc}") from exc
    return [str(name) for (name,) in found]
