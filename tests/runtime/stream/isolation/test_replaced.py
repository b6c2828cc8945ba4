"""A process that hangs or crashes: what it costs a stream, and who takes its place.

Rows 16 and 17 of the fault list.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevlm.box import BoxConfig
from edgevlm.bundle import Bundle
from edgevlm.event import AnswerEvent, FaultEvent, SummaryEvent
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.run import run
from tests.runtime.stream.conftest import ListSource, ManualClock
from tests.runtime.stream.isolation.conftest import CHILD, Make, alive, children_of, told


class Struck(ListSource):
    """Frames, and a stop rule that strikes at the process while one of them is answered."""

    def __init__(self, there: Isolated, levels: list[int | None], frame: int, blow: int) -> None:
        super().__init__(levels, ManualClock())
        self._there = there
        self._frame, self._blow = frame, blow
        self._asked = 0

    def frames(self) -> Iterator[Any]:
        for frame in super().frames():
            self._asked = 1 if frame.index == self._frame else 0
            yield frame

    def stopped(self) -> bool:
        self._asked += self._asked > 0
        if self._asked == 3 and self._there.process.pid is not None:
            os.kill(self._there.process.pid, self._blow)
        return False


def codes(events: list[Any]) -> list[Any]:
    return [e.code if isinstance(e, FaultEvent) else e.frame for e in events]


@pytest.mark.parametrize(
    ("blow", "said"),
    [
        (signal.SIGSTOP, "has given no sign of life for 3 s and was killed"),
        (signal.SIGKILL, "closed its connection and ended by SIGKILL"),
        (signal.SIGSEGV, "closed its connection and ended by SIGSEGV"),
    ],
)
def test_a_process_that_hangs_or_crashes_costs_one_frame_and_is_replaced(
    isolate: Make, config: Callable[..., Any], blow: int, said: str
):
    there = isolate({"step_s": 3})
    settings = config(generation={"max_tokens": 4, "draft": False}, policy={"reuse_every_s": 0})
    first = there.process.pid
    source = Struck(there, [40, 200, 40, 40, 90], 1, blow)
    events, summary = told(there, settings, source, source.stopped)
    assert codes(events)[:2] == [0, "backend"]
    fault = events[1]
    assert said in fault.message
    assert "another is started at once (loss 1 of at most 5 within 60 s)" in fault.message
    assert [e.frame for e in events if isinstance(e, AnswerEvent)] == [0, 2, 3, 4]
    # The scene of frame 0 is back at frame 2, and its answer still stands: nothing was lost.
    assert [e.of for e in events if isinstance(e, AnswerEvent)] == [None, 0, 0, None]
    (recovered,) = [e for e in events if isinstance(e, FaultEvent) and e.code == "recovered"]
    assert "another process has loaded the model" in recovered.message
    assert (summary.frames.answered, summary.frames.reused, summary.frames.failed) == (2, 2, 1)
    assert first is not None
    assert not alive(first)
    assert alive(there.process.pid or 0)


def test_an_answer_cut_by_a_crash_never_stands(isolate: Make, config: Callable[..., Any]):
    there = isolate()
    settings = config(generation={"max_tokens": 4, "draft": False}, policy={"reuse_every_s": 0})
    source = Struck(there, [40, 200, 200, 200], 1, signal.SIGKILL)
    events, summary = told(there, settings, source, source.stopped)
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert [(e.frame, e.reused) for e in answers] == [(0, False), (2, False), (3, True)]
    assert summary.frames.failed == 1


def test_a_process_that_dies_between_two_frames_costs_none(
    isolate: Make, config: Callable[..., Any]
):
    there = isolate()
    clock = ManualClock()

    class Between(ListSource):
        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                if frame.index == 1 and there.process.pid is not None:
                    channel = there.process._supervisor._channel
                    os.kill(there.process.pid, signal.SIGSEGV)
                    assert channel is not None
                    assert channel.waits(20)  # its end
                yield frame

    settings = config(generation={"max_tokens": 2})
    stream = Stream(settings, Between([40, 200, 90], clock), there, clock, kept=there)
    *events, summary = stream.events()
    assert isinstance(summary, SummaryEvent)
    assert (summary.frames.answered, summary.frames.failed) == (3, 0)
    messages = [e.message for e in events if isinstance(e, FaultEvent)]
    assert "broke off while nobody asked and ended by SIGSEGV" in messages[0]
    assert "another process has loaded the model" in messages[1]


def test_several_streams_share_a_process_and_outlive_it(nano: Bundle):
    streams = [
        {"name": name, "ask": "What is it?", "policy": {"gate": False},
         "generation": {"max_tokens": 3},
         "source": {"uri": f"synthetic:?seed={seed}&frames=6&size=64x36"}}
        for seed, name in enumerate(("door", "yard"))
    ]  # fmt: skip
    config = BoxConfig.model_validate(
        {"bundle": str(nano.root), "streams": streams, "overcommit": True,
         "engine": {"isolate": True, "threads": 1}, "limits": {"step_s": 20}}
    )  # fmt: skip
    events: list[Any] = []
    struck = 0
    for event in run(config):
        events.append(event)
        if event.kind == "answer" and not struck:
            (struck,) = model_processes()
            os.kill(struck, signal.SIGKILL)
    summary = events[-1]
    assert summary.frames.read == 12
    assert 1 <= summary.frames.failed + sum(e.kind == "fault" for e in events) <= 8
    assert summary.frames.answered >= 9
    assert {e.stream for e in events if e.kind == "answer"} == {"door", "yard"}
    assert any(e.kind == "fault" and "ended by SIGKILL" in e.message for e in events)
    assert model_processes() == []


def model_processes() -> list[int]:
    """Children of this process that are a model's."""
    return [
        child
        for child in children_of(os.getpid())
        if CHILD.encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_blows_at_any_moment_leave_the_books_balanced(
    isolate: Make, config: Callable[..., Any], seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edgevlm.runtime.stream.isolation.supervisor.WINDOW_S", 0.01)
    monkeypatch.setattr("edgevlm.runtime.stream.pipeline.MAX_FAILURES_IN_A_ROW", 99)
    there = isolate({"step_s": 3})
    rng = random.Random(seed)

    def sometimes() -> bool:
        if rng.random() < 0.04 and there.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                blow = rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT])
                os.kill(there.process.pid, blow)
        return False

    settings = config(generation={"max_tokens": 4}, policy={"gate": False})
    source = ListSource([rng.randrange(256) for _ in range(30)], ManualClock())
    _, summary = told(there, settings, source, sometimes)
    assert summary.frames.failed > 0
    assert summary.frames.answered > 15
