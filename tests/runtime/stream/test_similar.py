"""Frames found by what they look like: a real CLIP of tiny size, and numpy as the judge."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevlm.conditions import Condition
from edgevlm.errors import BackendError, ContractError, EmbeddingMismatch, SinkError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.stream.sinks import Told, open_sink
from edgevlm.runtime.stream.store import vectors
from edgevlm.runtime.stream.store.embedder import Embedder
from edgevlm.runtime.stream.store.query import Selection
from edgevlm.runtime.stream.store.retention import AT_ONCE, Retention
from edgevlm.runtime.stream.store.sheet import AT_MOST, Sheet
from edgevlm.runtime.stream.store.similar import find_similar
from edgevlm.runtime.stream.store.vectors import ModelOfVectors
from edgevlm.runtime.stream.store.writer import EventStore
from tests.runtime.stream.told import SECOND, START_NS, fault, told


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP, exported."""
    from tests.export.encoders import tiny  # torch: not for who only collects the tests

    root = tmp_path_factory.mktemp("clip")
    tiny.clip(root / "checkpoint")
    export(str(root / "checkpoint"), root / "bundle", ExportOptions(precision="fp32"))
    return root / "bundle"


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 255, (9, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1)


def pictured(seq: int, at_s: float = 0.0) -> Told:
    event = told(seq, f"scene {seq}", at_s=at_s, answer={"n": seq}).event
    frame = Frame(index=seq, pixels=ArrayPixels(picture(seq)),
                  captured_ns=START_NS + round(at_s * SECOND), monotonic_ns=0)  # fmt: skip
    return Told(event, frame)


@pytest.fixture(scope="module")
def store(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty scenes, a fault between them."""
    path = tmp_path_factory.mktemp("store") / "events.db"
    sink = open_sink(f"sqlite:{path}?embed={clip}")
    for seq in range(30):
        sink.write(pictured(seq, at_s=seq))
    sink.write(fault(30))
    sink.close()
    sink.close()
    return path


def test_a_picture_finds_itself_and_the_order_is_that_of_full_precision(store, clip):
    with closing(Embedder(clip)) as embedder:
        exact = np.stack([embedder.image(picture(n)) for n in range(30)])
    assert np.linalg.norm(exact, axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    found = find_similar(store, image=picture(7), limit=30)
    assert found[0][0].body["seq"] == 7
    cosines = exact @ exact[7]
    order = [event.body["seq"] for event, _ in found]
    assert sorted(order) == list(range(30))
    for seq, (_, score) in zip(order, found, strict=True):
        assert score == pytest.approx(cosines[seq], abs=0.02)
    assert all(a[1] >= b[1] for a, b in pairwise(found))


def test_a_text_finds_what_the_model_says_it_is_most_like(store, clip):
    with closing(Embedder(clip)) as embedder:
        exact = np.stack([embedder.image(picture(n)) for n in range(30)])
        cosines = exact @ embedder.text("a red car")
    found = find_similar(store, text="a red car", limit=5)
    best = np.sort(cosines)[::-1][:5]
    assert [score for _, score in found] == pytest.approx(best, abs=0.02)
    assert all(event.thumbnail is None for event, _ in found)


def test_the_search_keeps_to_the_selection(store):
    select = Selection(where=[Condition.parse("answer.n >= 20")], kinds=["answer"])
    found = find_similar(store, select, image=picture(7), limit=50, thumbnails=True)
    assert sorted(event.body["seq"] for event, _ in found) == list(range(20, 30))
    assert all(event.thumbnail for event, _ in found)


def test_a_bundle_that_was_moved_is_named_and_another_is_refused(store, clip, nano, tmp_path):
    moved = tmp_path / "moved"
    moved.symlink_to(clip)
    assert find_similar(store, image=picture(3), bundle=moved)[0][0].body["seq"] == 3
    with pytest.raises(EmbeddingMismatch, match="do not compare with them"):
        find_similar(store, image=picture(3), bundle=nano.root)
    with pytest.raises(EmbeddingMismatch, match="begin another store"):
        open_sink(f"sqlite:{store}?embed={nano.root}")
    with closing(sqlite3.connect(store)) as db:  # and nothing was changed by it
        assert db.execute("SELECT count(*) FROM embeddings").fetchone() == (30,)


def test_a_language_models_visual_tokens_compare_pictures(nano, tmp_path):
    path = tmp_path / "events.db"
    sink = open_sink(f"sqlite:{path}?embed={nano.root}")
    for seq in range(3):
        sink.write(pictured(seq))
    sink.close()
    (best, score), *_ = find_similar(path, image=picture(1))
    assert best.body["seq"] == 1
    assert score > 0.999
    with pytest.raises(ContractError, match="no text encoder"):
        find_similar(path, text="a red car")


def test_a_store_without_vectors_says_how_it_gets_some(tmp_path):
    path = tmp_path / "events.db"
    sink = open_sink(f"sqlite:{path}")
    sink.write(told(0))
    sink.close()
    with pytest.raises(SinkError, match=r"embed=BUNDLE"):
        find_similar(path, text="a red car")


class Toy:
    """Vectors without a model: the colour of a corner."""

    model = ModelOfVectors("0" * 64, "toy", "/toy")

    def __init__(self, width: int = 8) -> None:
        self.width, self.fails = width, False

    def image(self, image) -> np.ndarray:
        if self.fails:
            raise BackendError("out of memory")
        vector = np.random.default_rng(int(image[0, 0, 0])).standard_normal(self.width)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [n for (n,) in db.execute("SELECT event FROM embeddings ORDER BY event")]


def test_vectors_go_with_their_events(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, Retention(days=1.0), embedder=Toy(), clock=clock)
    for seq in range(4):
        store.add(told(seq).event, told(seq).frame)
    assert rows(path) == [1, 2, 3, 4]
    clock.advance(2 * 86_400)
    store.add(told(4).event, told(4).frame)
    store.close()
    assert rows(path) == [5]
    assert AT_ONCE > 4


def test_a_graph_that_fails_costs_the_vector_and_not_the_event(tmp_path, clock):
    path, toy = tmp_path / "events.db", Toy()
    store = EventStore(path, embedder=toy, clock=clock)
    store.add(told(0).event, told(0).frame)
    toy.fails = True
    with pytest.raises(SinkError, match="frames get no vectors: out of memory"):
        store.add(told(1).event, told(1).frame)
    store.add(told(2).event, told(2).frame)  # said once
    toy.fails = False
    store.add(told(3).event, told(3).frame)
    store.close()
    assert rows(path) == [1, 4]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (4,)


def test_a_store_that_forgot_all_vectors_takes_another_model(tmp_path, clock):
    path = tmp_path / "events.db"
    store = EventStore(path, embedder=Toy(), clock=clock)
    store.close()
    newer = Toy()
    newer.model = ModelOfVectors("1" * 64, "newer", "/newer")
    store = EventStore(path, embedder=newer, clock=clock)
    store.add(told(0).event, told(0).frame)
    store.close()
    with pytest.raises(EmbeddingMismatch, match="are of newer"):
        EventStore(path, embedder=Toy(), clock=clock)


@pytest.mark.parametrize("count", [1, 5, 3000])
def test_the_search_is_exact_over_many_blocks(count):
    rng = np.random.default_rng(count)
    given = rng.standard_normal((count, 24)).astype(np.float32)
    query = rng.standard_normal(24).astype(np.float32)
    query /= np.linalg.norm(query)
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE embeddings (event INTEGER PRIMARY KEY, vector BLOB)")
        for n, vector in enumerate(given):
            vectors.insert(db, n, vector)
        stored = np.stack([np.rint(v * (127 / np.abs(v).max())) for v in given])
        cosines = stored @ query / np.linalg.norm(stored, axis=1)
        found = vectors.nearest(db, query, 10)
    order = np.argsort(-cosines)[:10]
    assert [n for n, _ in found] == list(order)
    assert [score for _, score in found] == pytest.approx(cosines[order], abs=1e-5)


def test_a_sheet_has_the_pictures_in_their_order_up_to_a_bound(store):
    sheet = Sheet()
    for event, score in find_similar(store, image=picture(7), limit=30, thumbnails=True):
        sheet.add(event, score)
    drawn = np.asarray(sheet.picture())
    assert (sheet.shown, sheet.given) == (30, 30)
    first = Image.fromarray(picture(7)).resize((160, 90))
    corner = drawn[8 + 192 - 90 : 8 + 192, 8 : 8 + 160].astype(int)
    assert np.abs(corner - np.asarray(first)).mean() < 12
    for _ in range(AT_MOST):
        sheet.add(event, score)
    assert (sheet.shown, sheet.given) == (AT_MOST, 30 + AT_MOST)
