"""Models in processes of their own; none of them, and no memory, outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevlm.bundle import Bundle
from edgevlm.config import EngineSection, LimitsSection
from edgevlm.event import SummaryEvent
from edgevlm.runtime.stream.isolation.process import ModelProcess
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.worker import Worker
from tests.runtime.stream.conftest import ListSource

Make = Callable[..., Isolated]

BROKEN = "tests.runtime.stream.isolation.broken_child"


def told(
    there: Isolated, config: Any, source: ListSource, stopped: Callable[[], bool]
) -> tuple[list[Any], SummaryEvent]:
    """Events of a run and its summary, whose books are balanced."""
    stream = Stream(config, source, there, source._clock, stopped, kept=there)
    *events, summary = stream.events()
    assert isinstance(summary, SummaryEvent)
    frames = summary.frames
    assert frames.read == len(source._levels)
    assert (
        frames.read
        == frames.answered + frames.reused + sum(frames.dropped.values()) + frames.failed
    )
    assert [e.seq for e in events] == list(range(len(events)))
    return events, summary


def children_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def alive(pid: int) -> bool:
    """True of a process that is there, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def isolate(nano: Bundle) -> Iterator[Callable[..., Isolated]]:
    """Nano in a process of its own."""
    opened: list[ModelProcess] = []
    pids: list[int] = []

    def make(limits: dict[str, Any] | None = None, **options: Any) -> Isolated:
        def start(passed: Any) -> Worker:
            worker = start_of(passed)
            pids.append(worker.pid)
            return worker

        start_of = options.pop("start", lambda passed: Worker(CHILD, passed))
        given = LimitsSection(**(limits or {}))
        engine = EngineSection(isolate=True, threads=1)
        opened.append(ModelProcess(str(nano.root), engine, given, start=start, **options))
        return Isolated(opened[-1])

    yield make
    for process in opened:
        process.close()
        assert process.shared_bytes == 0
    assert [pid for pid in pids if alive(pid)] == []


CHILD = "edgevlm.runtime.stream.isolation.child"


@pytest.fixture
def broken(
    isolate: Callable[..., Isolated], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Isolated]:
    """A model whose process is broken in the named way."""

    def make(how: str, limits: dict[str, Any] | None = None, **options: Any) -> Isolated:
        monkeypatch.setenv("EDGEVLM_TEST_BROKEN", how)
        monkeypatch.setenv("EDGEVLM_TEST_MARK", str(tmp_path / "first"))
        return isolate(limits, start=lambda passed: Worker(BROKEN, passed), **options)

    return make
