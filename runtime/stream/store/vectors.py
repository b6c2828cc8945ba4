"""Vectors of frames in the event store, and the exact search among them.

::

    embedding_model  bundle (its id), name, path: one row, the model that all are of
    embeddings       event -> 1/length (float32), then int8 values

A vector is scaled so that its largest value is 127 and rounded; its own length is kept, so that
scores are true cosines of what is stored. The tables are there in stores that were written with
``embed=BUNDLE``; an event that is deleted takes its vector along.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgevlm.errors import EmbeddingMismatch
from edgevlm.tensors import Float32

AT_ONCE = 1024  # vectors: the block that is in memory, and stays in a processor's cache
_TABLES = """
CREATE TABLE IF NOT EXISTS embedding_model (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    bundle TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS embeddings (
    event INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class ModelOfVectors:
    """Which model vectors are of.

    Args:
        bundle: the bundle's id.
        name: what it calls itself.
        path: where it lay.
    """

    bundle: str
    name: str
    path: str


class Embeds(Protocol):
    """Makes vectors of pictures."""

    model: ModelOfVectors

    def image(self, image: Any) -> Float32:
        """Of uint8 RGB ``(height, width, 3)``, float32 ``(width,)`` of length 1.

        Raises:
            BackendError: the graph fails.
        """
        ...


def prepare(db: sqlite3.Connection, model: ModelOfVectors) -> None:
    """Make the tables, for vectors of this model and no other.

    Raises:
        EmbeddingMismatch: the store holds vectors of another model.
        sqlite3.Error: the disk takes no more.
    """
    for statement in filter(str.strip, _TABLES.split(";")):
        db.execute(statement)
    there = stored_model(db)
    if there is not None and (there.bundle == model.bundle or _any(db)):
        check(there, model)
        return
    db.execute(
        "INSERT OR REPLACE INTO embedding_model VALUES (1, ?, ?, ?)",
        (model.bundle, model.name, model.path),
    )


def stored_model(db: sqlite3.Connection) -> ModelOfVectors | None:
    """The model whose vectors a store holds; None where it holds none."""
    wanted = "SELECT name FROM sqlite_master WHERE name = 'embedding_model'"
    if db.execute(wanted).fetchone() is None:
        return None
    row = db.execute("SELECT bundle, name, path FROM embedding_model").fetchone()
    return None if row is None else ModelOfVectors(*row)


def check(there: ModelOfVectors, model: ModelOfVectors) -> None:
    """Refuse another model than the one whose vectors are there.

    Raises:
        EmbeddingMismatch: naming both.
    """
    if there.bundle != model.bundle:
        raise EmbeddingMismatch(
            f"the store's vectors are of {there.name} ({there.bundle[:12]}, from {there.path}), "
            f"and those of {model.name} ({model.bundle[:12]}) do not compare with them: use that "
            "bundle, or begin another store"
        )


def insert(db: sqlite3.Connection, event: int, vector: Float32) -> None:
    """Keep an event's vector, float32 ``(width,)``."""
    db.execute("INSERT INTO embeddings VALUES (?, ?)", (event, packed(vector)))


def packed(vector: Float32) -> bytes:
    """As it is stored: one over the length of the rounded values, and these."""
    largest = float(np.abs(vector).max()) or 1.0
    values = np.rint(vector * (127 / largest)).astype(np.int8)
    length = float(np.linalg.norm(values.astype(np.float32))) or 1.0
    rounded: bytes = values.tobytes()
    return struct.pack("<f", 1 / length) + rounded


def nearest(
    db: sqlite3.Connection,
    query: Float32,
    at_most: int,
    test: str = "1",
    values: Sequence[Any] = (),
) -> list[tuple[int, float]]:
    """Events by the cosine of their vector with the query, best first: every vector is looked at.

    Args:
        db: of a store with vectors.
        query: float32 ``(width,)``, of length 1.
        at_most: how many.
        test: SQL over ``events``, with its parameters in ``values``; "1" takes all.
        values: its parameters.

    Returns:
        ``id`` in ``events``, and the cosine.
    """
    among = "" if test == "1" else f" WHERE event IN (SELECT id FROM events WHERE {test})"
    cursor = db.execute(f"SELECT event, vector FROM embeddings{among} ORDER BY event", values)
    stored = np.dtype([("scale", "<f4"), ("values", "i1", (len(query),))])
    ids, scores = np.empty(0, np.int64), np.empty(0, np.float32)
    while rows := cursor.fetchmany(AT_ONCE):
        block = np.frombuffer(b"".join(row[1] for row in rows), stored)
        # not `@`: BLAS would wake threads for every block, beside a stream that needs the cores
        found = np.einsum("ij,j->i", block["values"].astype(np.float32), query) * block["scale"]
        ids = np.concatenate([ids, np.array([row[0] for row in rows], np.int64)])
        scores = np.concatenate([scores, found])
        if len(scores) > at_most:
            best = np.argpartition(-scores, at_most - 1)[:at_most]
            ids, scores = ids[best], scores[best]
    order = np.lexsort((-ids, -scores))  # of equals the newest
    return [(int(ids[n]), float(scores[n])) for n in order]


def _any(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is not None
