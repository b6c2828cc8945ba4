"""Row 18 of the fault list: where memory ends, a stream does less, says so, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.errors import BackendError, BackendMemoryError
from edgevlm.event import AnswerEvent, Event, FaultEvent, SummaryEvent
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.backends.base import engine_error
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.pipeline import Stream
from tests.runtime.stream.conftest import ManualClock

TWO = ["What is it?", "Is it broken?"]


class Large:
    """Grey frames of one size. Not live."""

    name = "large"
    live = False

    def __init__(self, count: int, size_wh: tuple[int, int]) -> None:
        self._count = count
        self._size_wh = size_wh

    def frames(self) -> Iterator[Frame]:
        width, height = self._size_wh
        for index in range(self._count):
            yield Frame(
                index=index,
                pixels=ArrayPixels(np.full((height, width, 3), 40 * index, np.uint8)),
                captured_ns=0,
                monotonic_ns=ManualClock().monotonic_ns(),
                media_s=index / 10,
            )

    def close(self) -> None:
        pass


class Cramped:
    """A model whose memory ends where more than ``together`` questions or ``side`` pixels come."""

    def __init__(self, model: Vlm, side: int, side_by_side: bool = True) -> None:
        self._model = model
        self._side = side
        self._side_by_side = side_by_side
        self.asked: list[tuple[int, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def ask(self, image: np.ndarray, *words: Any, **choice: Any) -> Any:
        self._check(image, together=False)
        return self._model.ask(image, *words, **choice)

    def ask_many(self, image: np.ndarray, *words: Any, together: bool, **choice: Any) -> Any:
        self._check(image, together=together)
        return self._model.ask_many(image, *words, together=together, **choice)

    def _check(self, image: np.ndarray, *, together: bool) -> None:
        self.asked.append((max(image.shape), together))
        if max(image.shape) > self._side or (together and not self._side_by_side):
            raise BackendMemoryError("ONNX Runtime failed: bad allocation")


@pytest.fixture
def cramped(
    config: Callable[..., Any], scripted: Callable[..., Vlm], clock: ManualClock
) -> Callable[..., tuple[list[Event], Cramped]]:
    def run(
        count: int, ask: Sequence[str], seen: list[Event] | None = None, **model: Any
    ) -> tuple[list[Event], Cramped]:
        made = config(ask=ask, policy={"gate": False}, generation={"draft": False})
        short = Cramped(scripted(), **model)
        events = [] if seen is None else seen
        for event in Stream(made, Large(count, (1280, 720)), short, clock).events():  # type: ignore[arg-type]
            events.append(event)
        return events, short

    return run


def messages(events: Sequence[Event]) -> list[str]:
    return [e.message for e in events if isinstance(e, FaultEvent)]


def test_questions_go_apart_first_and_then_frames_get_smaller(cramped):
    events, model = cramped(5, TWO, side=700, side_by_side=False)
    assert model.asked == [(1280, True), (1280, False), (640, False), (640, False), (640, False)]
    apart, smaller = messages(events)
    assert apart.endswith("bad allocation; questions are asked one after another from now on")
    assert smaller.endswith("; frames are at most 640 pixels wide and high from now on")
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert {e.degraded[-2:] for e in answers} == {
        (
            "memory: questions are asked one after another",
            "memory: frames are at most 640 pixels wide and high",
        )
    }
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    assert (summary.frames.answered, summary.frames.failed) == (3, 2)


def test_a_single_question_only_gets_smaller_frames(cramped):
    events, model = cramped(4, TWO[:1], side=320)
    assert [side for side, _ in model.asked] == [1280, 640, 320, 320]
    assert len(messages(events)) == 2


def test_when_nothing_is_left_three_failures_end_the_stream(cramped):
    events: list[Event] = []
    with pytest.raises(BackendMemoryError, match="bad allocation"):
        cramped(20, TWO[:1], seen=events, side=100)
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    assert summary.frames.failed == 2 + 3  # 640 and 320 were tried, 160 is too small to be of use
    assert [m.endswith("from now on") for m in messages(events)] == [True] * 2 + [False] * 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), BackendMemoryError),
        (RuntimeError("[E:onnxruntime] Failed to allocate memory for requested buffer of size 8"),
         BackendMemoryError),
        (RuntimeError("std::bad_alloc"), BackendMemoryError),
        (RuntimeError("CUDA failure 2: out of memory"), BackendMemoryError),
        (RuntimeError("Non-zero status code returned while running MatMul"), BackendError),
    ],
)  # fmt: skip
def test_memory_that_ended_is_told_from_other_failures(error: Exception, kind: type[BackendError]):
    assert type(engine_error("ONNX Runtime failed", error)) is kind


def test_a_model_gives_up_what_decodes_side_by_side_when_memory_ends(
    model: Vlm, monkeypatch: pytest.MonkeyPatch, photograph: Callable[[str], Path]
):
    picture = photograph("coffee.png")
    expected = [a.text for a in model.ask_many(picture, TWO, max_tokens=3)]
    answering = model._inference._answering  # type: ignore[union-attr]
    together = answering.together

    def ends(asked: Any) -> Iterator[None]:
        yield next(together(asked))
        raise MemoryError

    monkeypatch.setattr(answering, "together", ends)
    with pytest.raises(BackendMemoryError, match="memory ended"):
        model.ask_many(picture, TWO, max_tokens=3)
    assert [a.text for a in model.ask_many(picture, TWO, max_tokens=3)] == expected
    answering._tried = False  # other tests use this model
