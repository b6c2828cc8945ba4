"""Find events by what their frames look like: like a text, or like another picture."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.store import vectors
from edgevlm.runtime.stream.store.embedder import Embedder
from edgevlm.runtime.stream.store.query import Selection, StoredEvent
from edgevlm.runtime.stream.store.schema import open_for_reading

AT_MOST = 10


def find_similar(
    path: Path,
    select: Selection | None = None,
    *,
    text: str | None = None,
    image: Any = None,
    bundle: Path | None = None,
    limit: int | None = None,
    thumbnails: bool = False,
) -> list[tuple[StoredEvent, float]]:
    """Events whose frames are most like a text or a picture, with the cosine, best first.

    Args:
        path: the store, written with ``embed=BUNDLE``.
        select: only among these events.
        text: what the frame should show; or
        image: a picture (a path, a PIL image or uint8 RGB) that it should be like.
        bundle: the same one, where it lies elsewhere now; None takes where it lay.
        limit: so many; None is ``AT_MOST``.
        thumbnails: read the pictures too.

    Raises:
        SinkError: no readable store, or one without vectors.
        EmbeddingMismatch: its vectors are of another model than ``bundle``.
        BundleError: the bundle cannot be used.
        ContractError: a text, and the bundle holds no texts against pictures.
        ImageError: a picture that cannot be taken.
    """
    with closing(open_for_reading(path)) as db:
        try:
            model = vectors.stored_model(db)
            if model is None:
                raise SinkError(
                    f"{path} holds no vectors: write it with --sink 'sqlite:{path}?embed=BUNDLE'"
                )
            with closing(Embedder(bundle or Path(model.path))) as embedder:
                vectors.check(model, embedder.model)
                query = embedder.image(image) if text is None else embedder.text(text)
            test, values = (select or Selection()).sql()
            found = vectors.nearest(db, query, limit or AT_MOST, test, values)
            return [(_event(db, number, thumbnails), score) for number, score in found]
        except sqlite3.DatabaseError as exc:
            raise SinkError(f"{path} cannot be read: {exc}") from exc


def _event(db: sqlite3.Connection, number: int, thumbnails: bool) -> StoredEvent:
    run, stream, seq, body = db.execute(
        "SELECT run, stream, seq, body FROM events WHERE id = ?", (number,)
    ).fetchone()
    jpeg = None
    if thumbnails:
        row = db.execute("SELECT jpeg FROM thumbnails WHERE event = ?", (number,)).fetchone()
        jpeg = None if row is None else row[0]
    return StoredEvent(f"{run}/{stream}/{seq}", json.loads(body), jpeg)
