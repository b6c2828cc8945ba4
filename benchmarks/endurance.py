"""Does memory stay flat: millions of synthetic frames through a stream, on a clock that hurries.

``python -m benchmarks.endurance BUNDLE --frames 10000000`` prints the resident set, file
descriptors and threads along the way and says what grew. Frames are 64x36 at 30 a second; the
pipeline is the whole one (rate, gate, prompt, decoding by a scripted backend, drafts, a rule,
event store with thumbnails and retention, JSON Lines), only the graphs are not computed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle import open_bundle
from edgevlm.bundle.abilities import require
from edgevlm.config import make_config
from edgevlm.event import Event, SummaryEvent
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.run import _delivered
from edgevlm.runtime.stream.sinks import Sinks, Told
from edgevlm.runtime.stream.sinks.jsonl import JsonLinesSink
from edgevlm.runtime.stream.sources.synthetic import SyntheticSource
from edgevlm.runtime.stream.store.retention import Retention
from edgevlm.runtime.stream.store.writer import EventStore

FPS = 30.0
RATE_HZ = 0.5
KEPT_DAYS = 0.02  # of stream time: the store forgets from the first hour on
MARKS = 20


class HurriedClock:
    """Time that moves by what each frame takes; nobody waits for it."""

    def __init__(self) -> None:
        self._now_ns = 1_000_000_000

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, from 2026 on."""
        return 1_767_225_600_000_000_000 + self._now_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds of stream time."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Move on by so much."""
        self._now_ns += round(seconds * 1e9)


class Hurried:
    """A synthetic source whose frames move the clock on."""

    live = False

    def __init__(self, source: SyntheticSource, clock: HurriedClock) -> None:
        self.name = source.name
        self._source = source
        self._clock = clock

    def frames(self) -> Iterator[Frame | BadFrame]:
        """The frames of the source."""
        for item in self._source.frames():
            self._clock.sleep(1 / FPS)
            yield item

    def close(self) -> None:
        """End them."""
        self._source.close()


class StoreSink:
    """The event store on the stream's own clock."""

    name = "store"

    def __init__(self, path: Path, clock: HurriedClock) -> None:
        self._store = EventStore(path, Retention(days=KEPT_DAYS), clock=clock)

    def write(self, told: Told) -> None:
        """Store one event."""
        self._store.add(told.event, told.frame)

    def close(self) -> None:
        """Close the file."""
        self._store.close()


@dataclass(frozen=True, slots=True)
class Mark:
    """What the process holds after so many frames."""

    frames: int
    rss_kb: int
    descriptors: int
    threads: int
    store_kb: int


def resident_kb() -> int:
    """The resident set after a collection, freed memory given back to the system."""
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def endure(bundle: Path, frames: int, folder: Path) -> tuple[list[Mark], SummaryEvent]:
    """Run so many frames; ``MARKS`` looks at the process on the way.

    Args:
        bundle: a language model's; its tokenizer and prompt are used, its graphs are not.
        frames: at least ``MARKS``.
        folder: of the event store.
    """
    opened = open_bundle(bundle)
    clock = HurriedClock()
    require(opened.manifest, "ask")
    assert opened.manifest.prompt is not None
    stop = opened.manifest.prompt.stop_token_ids[0]
    raw = {
        "bundle": str(bundle),
        "ask": "What is it?",
        "source": {"uri": f"synthetic:?fps={FPS:g}&frames={frames}&size=64x36"},
        "policy": {"rate_hz": RATE_HZ, "reuse_every_s": 1.0},
        "rules": [{"name": "calm", "when": ["finish_reason = stop"], "for_s": 1}],
    }
    config = make_config(raw)
    source = Hurried(SyntheticSource(config.source.uri, clock=clock), clock)
    path = folder / "events.db"
    marks: list[Mark] = []
    last: Event | None = None
    with (
        closing(Vlm(opened, ScriptedBackend(opened.manifest, (28120, stop)))) as model,
        closing(StoreSink(path, clock)) as store,
        Path("/dev/null").open("w") as nowhere,
    ):
        stream = Stream(config, source, model, clock)
        for last in _delivered(stream, Sinks([store, JsonLinesSink(nowhere)])):
            seen = last.frame + 1 if hasattr(last, "frame") else frames
            if seen >= frames * (len(marks) + 1) / MARKS:
                marks.append(_mark(seen, path))
    assert isinstance(last, SummaryEvent)
    return marks, last


def _mark(frames: int, store: Path) -> Mark:
    return Mark(
        frames=frames,
        rss_kb=resident_kb(),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
        store_kb=sum(p.stat().st_size for p in store.parent.iterdir()) // 1024,
    )


def growth(marks: list[Mark]) -> float:
    """Resident memory of the last tenth over that of the fourth: 1.0 is flat.

    Before, windows of percentiles fill: ``accounting.WINDOW`` answers, a quarter of a million
    frames.
    """
    tenth = MARKS // 10
    early = sum(m.rss_kb for m in marks[3 * tenth : 4 * tenth])
    late = sum(m.rss_kb for m in marks[-tenth - 1 : -1])  # the very last is behind the run
    return late / early


def main() -> None:
    """Print the marks and what grew."""
    parser = argparse.ArgumentParser(prog="benchmarks.endurance", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        marks, summary = endure(asked.bundle, asked.frames, Path(folder))
    for mark in marks:
        sys.stdout.write(
            f"{mark.frames:>10} frames: {mark.rss_kb / 1024:.1f} MiB resident, "
            f"{mark.descriptors} descriptors, {mark.threads} threads, "
            f"store {mark.store_kb / 1024:.1f} MiB\n"
        )
    sys.stdout.write(
        f"{summary.frames}\nresident memory grew by {100 * (growth(marks) - 1):.2f} % "
        f"in {time.monotonic() - begun:.0f} s\n"
    )


if __name__ == "__main__":
    main()
