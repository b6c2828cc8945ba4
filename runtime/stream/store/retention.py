"""What the store forgets: the oldest events, little by little, by age and by size."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

AT_ONCE = 200  # rows a call: a purge never holds up the stream for long


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much is kept.

    Args:
        days: events older than this go; None keeps them all.
        megabytes: over this size of the file (10^6 bytes), thumbnails of the oldest events go,
            then the events; None sets no limit.
    """

    days: float | None = 30.0
    megabytes: float | None = 1000.0

    def apply(self, db: sqlite3.Connection, now_ms: int) -> None:
        """Delete up to ``AT_ONCE`` rows of each kind; called again with later events."""
        if self.days is not None:
            db.execute(
                "DELETE FROM events WHERE id IN"
                " (SELECT id FROM events WHERE kept_ms < ? ORDER BY id LIMIT ?)",
                (now_ms - round(self.days * 86_400_000), AT_ONCE),
            )
        if self._over(db):
            gone = db.execute(
                "DELETE FROM thumbnails WHERE event IN"
                " (SELECT event FROM thumbnails ORDER BY event LIMIT ?)",
                (AT_ONCE,),
            ).rowcount
            if gone < AT_ONCE and self._over(db):  # no pictures are left to give up
                db.execute(
                    "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)",
                    (AT_ONCE,),
                )
        db.execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def _over(self, db: sqlite3.Connection) -> bool:
        return self.megabytes is not None and used_bytes(db) > self.megabytes * 1e6


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    return int((pages - free) * db.execute("PRAGMA page_size").fetchone()[0])
