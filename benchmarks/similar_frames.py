"""Find frames like this one: what the exact search costs, and what rounding to int8 changes.

``python -m benchmarks.similar_frames --rows 1000000`` fills an event store with random vectors of
length 1 (the worst case for rounding: nothing is near to anything), and prints the time to write
them, the size of the file, the time of a search, its working set, and how many of the ten nearest
in float32 it finds. Where the sqlite-vec extension can be loaded it does the same in turn. Times
are of the processor beside those of the wall.
"""

from __future__ import annotations

import argparse
import importlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.runtime.stream.store import vectors
from edgevlm.runtime.stream.store.schema import open_for_writing
from edgevlm.tensors import Float32

AT_ONCE = 10_000
RUNS = 7
BEST = 10


def blocks(rows: int, width: int) -> Iterator[tuple[int, Float32]]:
    """Random vectors of length 1, the same every time, with the number of the first."""
    for start in range(0, rows, AT_ONCE):
        rng = np.random.default_rng([7, start])
        count = min(AT_ONCE, rows - start)
        given = rng.standard_normal((count, width), dtype=np.float32)
        yield start, given / np.linalg.norm(given, axis=1, keepdims=True)


def resident_mb() -> float:
    """The resident set, without pages of files that others can have too."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def fill(db: sqlite3.Connection, rows: int, width: int) -> float:
    """Write a store's events and vectors; processor seconds without those of making them."""
    vectors.prepare(db, vectors.ModelOfVectors("0" * 64, "random", "/random"))
    spent = 0.0
    body = '{"kind":"answer","text":"a row of the benchmark"}'
    for start, given in blocks(rows, width):
        begun = time.process_time()
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO events (id, run, stream, seq, kind, at_ms, kept_ms, body)"
            " VALUES (?, 'run', 'main', ?, 'answer', ?, 0, ?)",
            ((start + n + 1, start + n, start + n, body) for n in range(len(given))),
        )
        for n, vector in enumerate(given):
            vectors.insert(db, start + n + 1, vector)
        db.execute("COMMIT")
        spent += time.process_time() - begun
    return spent


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Median milliseconds of processor and of wall, after one run to warm up."""
    work()
    cpu, wall = [], []
    for _ in range(RUNS):
        begun = time.process_time(), time.perf_counter()
        work()
        cpu.append(1e3 * (time.process_time() - begun[0]))
        wall.append(1e3 * (time.perf_counter() - begun[1]))
    return statistics.median(cpu), statistics.median(wall)


def recall(db: sqlite3.Connection, rows: int, width: int, queries: Float32) -> float:
    """The share of the float32 ten nearest that the search finds."""
    scores = np.concatenate([given @ queries.T for _, given in blocks(rows, width)])
    best = np.argpartition(-scores, BEST, axis=0)[:BEST] + 1
    found = [{n for n, _ in vectors.nearest(db, query, BEST)} for query in queries]
    shared = sum(len(set(best[:, n]) & each) for n, each in enumerate(found))
    return shared / (BEST * len(queries))


def sqlite_vec(path: Path, rows: int, width: int, query: Float32) -> Iterator[str]:
    """The same with the extension, in int8 too."""
    try:
        extension: Any = importlib.import_module("sqlite_vec")
    except ImportError:
        yield "sqlite-vec: not installed"
        return
    db = sqlite3.connect(path, isolation_level=None)
    if not hasattr(db, "enable_load_extension"):
        yield "sqlite-vec: this Python's sqlite3 loads no extensions"
        return
    db.enable_load_extension(True)
    extension.load(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"CREATE VIRTUAL TABLE v USING vec0(v int8[{width}] distance_metric=cosine)")
    spent = 0.0
    for start, given in blocks(rows, width):
        begun = time.process_time()
        packed = ((start + n, vectors.packed(v)[4:]) for n, v in enumerate(given))
        db.execute("BEGIN")
        db.executemany("INSERT INTO v (rowid, v) VALUES (?, vec_int8(?))", packed)
        db.execute("COMMIT")
        spent += time.process_time() - begun
    asked = vectors.packed(query)[4:]
    select = f"SELECT rowid FROM v WHERE v MATCH vec_int8(?) AND k = {BEST}"
    cpu, wall = timed(lambda: db.execute(select, (asked,)).fetchall())
    db.close()
    size = path.stat().st_size / 1e6
    yield f"sqlite-vec: written in {spent:.1f} s, {size:.0f} MB, search {cpu:.0f} ms ({wall:.0f})"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.similar_frames", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    asked = parser.parse_args()
    queries = np.random.default_rng(1).standard_normal((20, asked.width), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        db = open_for_writing(path)
        spent = fill(db, asked.rows, asked.width)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = db.execute("SELECT sum(length(vector)) FROM embeddings").fetchone()[0] / 1e6
        before = resident_mb()
        cpu, wall = timed(lambda: vectors.nearest(db, queries[0], BEST))
        some = "at_ms >= ?", [asked.rows - asked.rows // 10]
        few = timed(lambda: vectors.nearest(db, queries[0], BEST, *some))
        grown = resident_mb() - before
        share = recall(db, asked.rows, asked.width, queries)
        db.close()
        sys.stdout.write(
            f"{asked.rows} vectors of {asked.width}: written with their events in {spent:.1f} s, "
            f"{path.stat().st_size / 1e6:.0f} MB of which {size:.0f} MB vectors\n"
            f"search: {cpu:.0f} ms of processor ({wall:.0f} ms of wall); among the last tenth "
            f"{few[0]:.0f} ms ({few[1]:.0f}); working set {grown:.0f} MB\n"
            f"of the ten nearest in float32, {100 * share:.1f} % are found\n"
        )
        for line in sqlite_vec(Path(folder) / "vec.db", asked.rows, asked.width, queries[0]):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
