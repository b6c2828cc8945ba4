from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.config import RunConfig, make_config
from edgevlm.event import Event, SummaryEvent
from edgevlm.frame import ArrayPixels, BadFrame, Frame
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.pipeline import Stream


class ManualClock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.on_advance: Callable[[], None] = lambda: None

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.on_advance()


class ListSource:
    """Frames from a list of grey levels; None is an undecodable one. Not live."""

    name = "list"
    live = False

    def __init__(self, levels: Sequence[int | None], clock: ManualClock, fps: float = 10.0) -> None:
        self._levels = levels
        self._clock = clock
        self._fps = fps

    def frames(self) -> Iterator[Frame | BadFrame]:
        for index, level in enumerate(self._levels):
            if level is None:
                yield BadFrame(index=index, reason="damaged on purpose")
                continue
            picture = np.full((72, 128, 3), level, np.uint8)
            yield Frame(
                index=index,
                pixels=ArrayPixels(picture),
                captured_ns=self._clock.wall_ns(),
                monotonic_ns=self._clock.monotonic_ns(),
                media_s=index / self._fps,
            )

    def close(self) -> None:
        pass


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    def make(**sections: Any) -> RunConfig:
        raw = {"bundle": "-", "ask": "What is it?", "source": {"uri": "-"}, **sections}
        return make_config(raw)

    return make


@pytest.fixture
def scripted(nano: Bundle) -> Iterator[Callable[..., Vlm]]:
    """A model over the real tokenizer and prompt whose decoder says what it is told."""
    opened: list[Vlm] = []
    end = nano.manifest.prompt.stop_token_ids[0]

    def make(words: Sequence[int] = (28120, end), **options: Any) -> Vlm:
        opened.append(Vlm(nano, ScriptedBackend(nano.manifest, words, **options)))
        return opened[-1]

    yield make
    for model in opened:
        model.close()


@pytest.fixture
def play(
    clock: ManualClock, config: Callable[..., RunConfig], scripted: Callable[..., Vlm]
) -> Callable[..., tuple[list[Event], SummaryEvent]]:
    """Run a list of grey levels through a stream; gives the events and the summary."""

    def run(
        levels: Sequence[int | None], *, model: Vlm | None = None, **sections: Any
    ) -> tuple[list[Event], SummaryEvent]:
        stream = Stream(config(**sections), ListSource(levels, clock), model or scripted(), clock)
        events = list(stream.events())
        summary = events.pop()
        assert isinstance(summary, SummaryEvent)
        return events, summary

    return run
