"""The tables of the event store, and how a file with them is opened.

::

    events      id, run, stream, seq, kind, at_ms (when), kept_ms (for retention), body (JSON)
    thumbnails  event -> JPEG

``user_version`` is the version of the tables. An event's public id is ``run/stream/seq``.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edgevlm.errors import SinkError

VERSION = 1
APPLICATION_ID = 0x4556_4C4D  # "EVLM", in the file's header
BUSY_S = 5.0
_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    kept_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (run, stream, seq)
);
CREATE INDEX events_by_time ON events (at_ms);
CREATE INDEX events_by_kind ON events (kind, at_ms);
CREATE TABLE thumbnails (
    event INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    jpeg BLOB NOT NULL
);
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode, its tables made if the file is new.

    Raises:
        SinkError: not a store of this version.
        sqlite3.DatabaseError: the file is damaged, locked or cannot be written.
    """
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        fresh = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if fresh:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        else:
            _check_version(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        if fresh:
            db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        else:
            db.execute("SELECT max(id), body FROM events").fetchone()  # damage shows here
    except BaseException:
        db.close()
        raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing.

    Raises:
        SinkError: there is no such file, or it is no readable store.
    """
    if not path.is_file():
        raise SinkError(f"{path}: no such event store; `edgevlm run --sink sqlite:{path}` makes it")
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    try:
        _check_version(db, path)
    except sqlite3.DatabaseError as exc:
        db.close()
        raise SinkError(f"{path} is no event store: {exc}") from exc
    except SinkError:
        db.close()
        raise
    return db


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise SinkError(f"{path} is a database of another program, not an event store")
    if version != VERSION:
        raise SinkError(f"{path} has tables of version {version}; this release reads {VERSION}")
