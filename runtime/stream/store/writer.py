"""Write events into the store, and keep on when the disk does not.

What is kept when things go wrong:

==========  =====================  =============================  ==========================
events      process killed         power fails                    disk full
==========  =====================  =============================  ==========================
``state``   kept                   kept, if the disk honours a    waiting in memory
                                   flush
others      kept                   those within a second of the   waiting in memory up to a
                                   last flush may go; the file    bound, the oldest go first
                                   stays whole
thumbnails, kept                   as others                      not made
vectors
==========  =====================  =============================  ==========================
"""

from __future__ import annotations

import sqlite3
import uuid
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from edgevlm.errors import BackendError, ImageError, SinkError
from edgevlm.event import AnswerEvent, Event
from edgevlm.frame import Frame
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.store import vectors
from edgevlm.runtime.stream.store.clock import KeptTime
from edgevlm.runtime.stream.store.retention import Retention
from edgevlm.runtime.stream.store.schema import open_for_writing
from edgevlm.runtime.stream.store.thumbnail import thumbnail
from edgevlm.tensors import Float32

WAITING_AT_MOST = 10_000  # events in memory while the disk takes none
SYNC_EVERY_MS = 1000
PURGE_EVERY_MS = 1000
RETRY_EVERY_MS = 1000
_ALARMS = ("state",)


class _Row(NamedTuple):
    stream: str
    seq: int
    kind: str
    at_ms: int
    kept_ms: int
    body: str
    jpeg: bytes | None
    vector: Float32 | None


class EventStore:
    """One SQLite file with the events of one or more runs. Used from one thread.

    A file that turns out to be damaged is put aside as ``NAME.corrupt-TIME`` and a new one begun;
    ``quarantined`` is its path then.

    Args:
        path: of the file; its folder must be there.
        retention: what is forgotten.
        thumbnails: keep a small JPEG of every frame that got a new answer.
        embedder: keep a vector of each such frame; called by ``add``, closed by whoever made it.
        clock: of retention.

    Raises:
        SinkError: it cannot be opened, or is no event store.
        EmbeddingMismatch: it holds vectors of another model.
    """

    def __init__(
        self,
        path: Path,
        retention: Retention | None = None,
        *,
        thumbnails: bool = True,
        embedder: vectors.Embeds | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.path = path
        self.run = uuid.uuid4().hex
        self.quarantined: Path | None = None
        self.forgotten = 0
        self._retention = retention or Retention()
        self._thumbnails = thumbnails
        self._embedder = embedder
        self._not_embedded = ""
        self._last_embedded: tuple[Frame, Float32] | None = None
        self._clock = clock
        self._waiting: deque[_Row] = deque()
        self._db: sqlite3.Connection | None = self._open()
        newest = self._db.execute("SELECT max(kept_ms) FROM events").fetchone()[0]
        self._time = KeptTime(clock, newest or 0)
        self._synced_ms = self._purged_ms = self._retried_ms = 0

    def _open(self) -> sqlite3.Connection:
        try:
            db = open_for_writing(self.path)
            if self._embedder is not None:
                _prepare(db, self._embedder)
            return db
        except sqlite3.OperationalError as exc:  # locked, no permission, no folder
            raise SinkError(f"{self.path} cannot be written: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            return self._begin_anew(exc)

    def _begin_anew(self, damage: sqlite3.DatabaseError) -> sqlite3.Connection:
        stamp = datetime.now(tz=timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        try:
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):  # of the damaged file: they must not meet the new one
                tail = self.path.with_name(self.path.name + suffix)
                if tail.exists():
                    tail.rename(aside.with_name(aside.name + suffix))
            made = open_for_writing(self.path)
            if self._embedder is not None:
                _prepare(made, self._embedder)
        except (OSError, sqlite3.DatabaseError) as exc:
            raise SinkError(f"{self.path} is damaged ({damage}) and cannot be replaced") from exc
        self.quarantined = aside
        return made

    def add(self, event: Event, frame: Frame | None = None) -> None:
        """Store one event; its frame becomes a thumbnail where it has a new answer.

        Raises:
            SinkError: the disk takes no more (said once; events wait in memory, the oldest ordinary
                ones go first when there are over ``WAITING_AT_MOST``), or takes them again; or the
                event is stored, and its frame has no vector (said once for a reason).
        """
        waited, before = bool(self._waiting), self._not_embedded
        self._waiting.append(self._row(event, None if waited else frame))
        now = self._time.now_ms()
        if waited and now - self._retried_ms < RETRY_EVERY_MS:
            self._bound()
            return
        self._retried_ms = now
        try:
            self._flush(now)
        except (sqlite3.Error, OSError) as exc:
            self._bound()
            if not waited:
                raise SinkError(f"{self.path}: events wait in memory: {exc}") from exc
            return
        if waited:
            lost, self.forgotten = self.forgotten, 0
            raise SinkError(f"{self.path}: written again; {lost} events are lost")
        if self._not_embedded not in ("", before):
            raise SinkError(f"{self.path}: frames get no vectors: {self._not_embedded}")

    def _row(self, event: Event, frame: Frame | None) -> _Row:
        wall_ms = self._clock.wall_ns() // 1_000_000
        at_ms = wall_ms
        jpeg = vector = None
        if isinstance(event, AnswerEvent):
            at_ms = _milliseconds(event.captured_at)
            if frame is not None and not event.reused:
                jpeg = thumbnail(frame) if self._thumbnails else None
                vector = self._embedded(frame)
        kept_ms, body = self._time.now_ms(), event.model_dump_json()
        seq = event.seq or 0  # the closing summary of several streams has none, and a name alone
        return _Row(event.stream, seq, event.kind, at_ms, kept_ms, body, jpeg, vector)

    def _embedded(self, frame: Frame) -> Float32 | None:
        if self._embedder is None:
            return None
        if self._last_embedded is not None and self._last_embedded[0] is frame:
            return self._last_embedded[1]  # of the answer to another question about it
        try:
            vector = self._embedder.image(frame.pixels.rgb())
        except (BackendError, ImageError) as exc:
            self._not_embedded = str(exc)
            return None
        self._not_embedded = ""
        self._last_embedded = frame, vector
        return vector

    def _bound(self) -> None:
        while len(self._waiting) > WAITING_AT_MOST:
            ordinary = (i for i, row in enumerate(self._waiting) if row.kind not in _ALARMS)
            del self._waiting[next(ordinary, 0)]
            self.forgotten += 1

    def _flush(self, now_ms: int) -> None:
        db = self._db
        if db is None:
            raise sqlite3.ProgrammingError("the store is closed")
        while self._waiting:
            row = self._waiting[0]
            sync = row.kind in _ALARMS or now_ms - self._synced_ms >= SYNC_EVERY_MS
            db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._insert(db, row)
            self._waiting.popleft()
            if sync:
                self._synced_ms = now_ms
        if now_ms - self._purged_ms >= PURGE_EVERY_MS:
            self._purged_ms = now_ms
            self._retention.apply(db, now_ms)

    def _insert(self, db: sqlite3.Connection, row: _Row) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            cursor = db.execute(
                "INSERT INTO events (run, stream, seq, kind, at_ms, kept_ms, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self.run, *row[:-2]),
            )
            if row.jpeg is not None:
                db.execute("INSERT INTO thumbnails VALUES (?, ?)", (cursor.lastrowid, row.jpeg))
            if row.vector is not None:
                vectors.insert(db, cursor.lastrowid or 0, row.vector)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Write what waits and close the file; may be called twice.

        Raises:
            SinkError: events are lost; the message says how many.
        """
        if self._db is None:
            return
        try:
            self._flush(self._time.now_ms())
        except sqlite3.Error as exc:
            lost = len(self._waiting) + self.forgotten
            raise SinkError(f"{self.path}: {lost} events are lost: {exc}") from exc
        finally:
            self._db.close()
            self._db = None


def _prepare(db: sqlite3.Connection, embedder: vectors.Embeds) -> None:
    try:
        vectors.prepare(db, embedder.model)
    except BaseException:
        db.close()
        raise


def _milliseconds(rfc3339: str) -> int:
    moment = datetime.fromisoformat(rfc3339.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1000)
