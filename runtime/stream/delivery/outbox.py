"""The events that a receiver has not taken yet, in a file that outlives the process.

One thread appends and another takes; each has a connection of its own, so neither waits for the
other's network.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edgevlm.errors import SinkError

AT_MOST = 10_000
BUSY_S = 5.0
_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    alarm INTEGER NOT NULL,
    body TEXT NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One event on its way.

    Args:
        number: its place in the outbox.
        event: its id, the same however often it is delivered.
        body: its JSON.
    """

    number: int
    event: str
    body: str


class Outbox:
    """A queue on disk of at most ``AT_MOST`` events; used by one process at a time.

    Args:
        path: of the SQLite file; its folder is made.

    Raises:
        SinkError: it cannot be opened, or another process uses it.
    """

    def __init__(self, path: Path, at_most: int = AT_MOST) -> None:
        self.path = path
        self._at_most = at_most
        self._lock = self._locked()
        try:
            self._db = self.connection()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(_TABLE)
            self._waiting = self.count(self._db)
        except sqlite3.Error as exc:
            self._lock.close()
            raise SinkError(f"{path} cannot be used as an outbox: {exc}") from exc

    def _locked(self) -> TextIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(self.path.name + ".lock").open("w")
        except OSError as exc:
            raise SinkError(f"{self.path} cannot be written: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.close()
            raise SinkError(
                f"{self.path}: another run delivers from it; give this one its own outbox=PATH"
            ) from exc
        return lock

    def connection(self) -> sqlite3.Connection:
        """A connection for the calling thread."""
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def append(self, event: str, body: str, *, alarm: bool) -> int:
        """Put an event at the end; over ``at_most``, the oldest ordinary one goes.

        Args:
            event: its id.
            body: its JSON.
            alarm: flushed to the disk at once, and the last to go.

        Returns:
            how many events were pushed out.

        Raises:
            sqlite3.Error: the disk takes no more.
        """
        self._db.execute(f"PRAGMA synchronous = {'FULL' if alarm else 'NORMAL'}")
        self._db.execute(
            "INSERT INTO outbox (event, alarm, body) VALUES (?, ?, ?)", (event, alarm, body)
        )
        self._waiting += 1
        if self._waiting <= self._at_most:
            return 0
        self._waiting = self.count(self._db)  # the other thread has taken some
        pushed = max(0, self._waiting - self._at_most)
        self._db.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY alarm, id LIMIT ?)",
            (pushed,),
        )
        self._waiting -= pushed
        return pushed

    @staticmethod
    def count(db: sqlite3.Connection) -> int:
        """How many events wait."""
        return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    @staticmethod
    def first(db: sqlite3.Connection, at_most: int) -> list[Message]:
        """The oldest events, which stay where they are."""
        rows = db.execute("SELECT id, event, body FROM outbox ORDER BY id LIMIT ?", (at_most,))
        return [Message(*row) for row in rows]

    @staticmethod
    def taken(db: sqlite3.Connection, messages: Sequence[Message]) -> None:
        """Forget events that the receiver has."""
        db.executemany("DELETE FROM outbox WHERE id = ?", [(m.number,) for m in messages])

    def waiting(self) -> int:
        """How many events wait; for the thread that appends."""
        return self.count(self._db)

    def close(self) -> None:
        """Release the file; what waits stays in it. May be called twice."""
        self._db.close()
        self._lock.close()
