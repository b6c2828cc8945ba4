"""Many streams over one model: turns on real threads, events from one, and what goes wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError, ContractError, SourceError
from edgevlm.event import AnswerEvent, Event, FaultEvent, SummaryEvent
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.lanes import SharedGraphs, cache_bytes, load_lanes
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.funnel import Funnel
from edgevlm.runtime.stream.lease import Sole
from edgevlm.runtime.stream.many import Item, Line, Stop, merged
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.schedule import Claim, Schedule
from edgevlm.runtime.stream.sinks import Sinks
from edgevlm.runtime.stream.sinks.base import Told
from edgevlm.runtime.stream.totals import Totals
from edgevlm.runtime.stream.turns import TurnLease, Turns
from tests.runtime.stream.live import LiveByClock, Nothing

WORD = 28120


class Picture:
    """A source of ``frames`` pictures, each another one; it may fail behind them."""

    live = False

    def __init__(self, frames: int, error: Exception | None = None) -> None:
        self.name = "pictures"
        self._frames = frames
        self._error = error

    def frames(self) -> Iterator[Frame]:
        for index in range(self._frames):
            yield Frame(
                index=index,
                pixels=ArrayPixels(np.full((36, 64, 3), 60 * (index % 4), np.uint8)),
                captured_ns=SYSTEM.wall_ns(),
                monotonic_ns=SYSTEM.monotonic_ns(),
                media_s=index / 10,
            )
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        pass


class Keeping:
    """A sink that keeps what it is given, and on which thread."""

    name = "keeping"

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.threads: set[str] = set()
        self.frames: list[int] = []

    def write(self, told: Told) -> None:
        self.threads.add(threading.current_thread().name)
        self.told.append(told)

    def seen(
        self,
        frame: Frame,
        do: str,  # noqa: ARG002
        dropped: dict[str, int],  # noqa: ARG002
        asks: Sequence[int] = (),  # noqa: ARG002
    ) -> None:
        self.threads.add(threading.current_thread().name)
        self.frames.append(frame.index)

    def close(self) -> None:
        pass


@pytest.fixture
def together(nano: Bundle, config: Callable[..., Any]) -> Callable[..., list[Event]]:
    """Run sources by name through lanes of one scripted model; events, and the error raised."""
    end = nano.manifest.prompt.stop_token_ids[0]

    def run(
        sources: dict[str, Picture],
        *,
        claims: dict[str, Claim] | None = None,
        before_step: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
        sink: Keeping | None = None,
        seen: list[Event] | None = None,
    ) -> list[Event]:
        backend = SharedGraphs(
            ScriptedBackend(nano.manifest, (WORD, WORD, WORD, end), before_step=before_step)
        )
        stop, funnel = Stop(stopped), Funnel[Item](4)
        turns = Turns(Schedule(claims or dict.fromkeys(sources, Claim())), stop)
        lines = {}
        for name, source in sources.items():
            line = Line(name, funnel, stop)
            line.sinks = Sinks([sink] if sink else [])
            own = config(name=name, policy={"gate": False}, generation={"draft": False})
            lease = TurnLease(turns, name, None)
            model = Vlm(nano, backend)
            lines[line] = Stream(own, source, model, SYSTEM, stop, watcher=line, lease=lease)
        found = [] if seen is None else seen
        for event in merged(lines, funnel, stop, Totals("all", SYSTEM), Sinks([])):
            found.append(event)
        return found

    return run


def by_stream(events: list[Event]) -> dict[str, list[Event]]:
    return {
        n: [e for e in events if e.stream == n] for n in dict.fromkeys(e.stream for e in events)
    }


def test_every_stream_has_its_own_numbers_and_summary_and_one_sums_up(together):
    sink = Keeping()
    events = together({"a": Picture(5), "b": Picture(3), "c": Picture(4)}, sink=sink)
    last = events.pop()
    assert isinstance(last, SummaryEvent)
    assert (last.stream, last.seq) == ("all", None)
    assert last.frames.answered == 12
    streams = by_stream(events)
    assert {n: len(e) for n, e in streams.items()} == {"a": 6, "b": 4, "c": 5}
    for name, own in streams.items():
        assert [e.seq for e in own] == list(range(len(own)))
        assert isinstance(own[-1], SummaryEvent)
        assert last.streams[name] == own[-1].frames
    assert last.age_ms.p50 is not None
    assert [t.event for t in sink.told] == events  # all of them, from one thread, in order
    assert sink.threads == {threading.current_thread().name}
    assert Counter(sink.frames) == Counter([*range(5), *range(3), *range(4)])


def test_a_stream_that_fails_leaves_the_others_alone_and_is_the_error_at_the_end(together):
    seen: list[Event] = []
    broken = Picture(1, SourceError("the cable is cut"))
    with pytest.raises(SourceError, match=r"1 of 2 streams failed: b: the cable is cut"):
        together({"a": Picture(6), "b": broken}, seen=seen)
    streams = by_stream(seen)
    assert [e.kind for e in streams["b"]] == ["answer", "fault", "summary"]
    assert sum(isinstance(e, AnswerEvent) for e in streams["a"]) == 6
    assert seen[-1].stream == "all"


def test_an_engine_that_fails_once_costs_one_frame_of_one_stream(together):
    number = count()

    def hiccup() -> None:
        if next(number) == 7:
            raise BackendError("the engine hiccuped")

    events = together({"a": Picture(4), "b": Picture(4)}, before_step=hiccup)
    last = events[-1]
    assert isinstance(last, SummaryEvent)
    assert (last.frames.answered, last.frames.failed) == (7, 1)
    assert [e.code for e in events if isinstance(e, FaultEvent)] == ["backend"]


def test_a_bug_ends_the_run_and_is_not_hidden(together):
    with pytest.raises(ZeroDivisionError):
        together({"a": Picture(10**6), "b": Picture(1, ZeroDivisionError())})


def test_a_reader_that_goes_ends_all_streams(nano, config):
    backend = SharedGraphs(ScriptedBackend(nano.manifest, (WORD, 2)))
    stop, funnel = Stop(lambda: False), Funnel[Item](2)
    turns = Turns(Schedule({"a": Claim(), "b": Claim()}), stop)
    lines = {
        Line(name, funnel, stop): Stream(
            config(name=name, policy={"gate": False}),
            Picture(10**6),
            Vlm(nano, backend),
            SYSTEM,
            stop,
            lease=TurnLease(turns, name, None),
        )
        for name in ("a", "b")
    }
    events = merged(lines, funnel, stop, Totals("all", SYSTEM), Sinks([]))
    assert next(events).kind == "answer"
    events.close()
    assert funnel.close(10), "no thread goes on"


def test_an_urgent_stream_is_answered_between_two_tokens_of_another_answer(nano, config):
    """The lower one has begun; the higher one comes, and both answers are what they were alone."""
    end = nano.manifest.prompt.stop_token_ids[0]
    order: list[str] = []
    door_wants, yard_began = threading.Event(), threading.Event()

    def step() -> None:
        order.append(threading.current_thread().name)
        if order.count("edgevlm-yard") == 4 and not yard_began.is_set():
            yard_began.set()  # behind the prompt
            assert door_wants.wait(10)

    class Later(Picture):
        def frames(self) -> Iterator[Frame]:
            assert yard_began.wait(10)
            yield from super().frames()

    words = (*[WORD] * 40, end)
    backend = SharedGraphs(ScriptedBackend(nano.manifest, words, before_step=step))
    stop, funnel = Stop(lambda: False), Funnel[Item](8)

    class Heard(Schedule):
        def ask(self, name: str, now_ns: int, due_ns: int = 0) -> None:
            super().ask(name, now_ns, due_ns)
            if name == "door":
                door_wants.set()

    claims = {"door": Claim(min_rate_hz=5.0), "yard": Claim()}
    turns = Turns(Heard(claims, {"door": 0.1, "yard": 1.0}), stop)
    lines = {}
    for name, source in {"door": Later(1), "yard": Picture(1)}.items():
        own = config(
            name=name, policy={"gate": False}, generation={"draft": False, "max_tokens": 64}
        )
        lease = TurnLease(turns, name, None)
        line = Line(name, funnel, stop)
        lines[line] = Stream(own, source, Vlm(nano, backend), SYSTEM, stop, lease=lease)
    events = list(merged(lines, funnel, stop, Totals("all", SYSTEM), Sinks([])))
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert [e.stream for e in answers] == ["door", "yard"]
    assert [e.tokens.output for e in answers] == [41, 41]
    first, last = order.index("edgevlm-door"), len(order) - order[::-1].index("edgevlm-door")
    assert set(order[first:last]) == {"edgevlm-door"}, "it was not interrupted in turn"
    assert "edgevlm-yard" in order[last:], "and the other answer went on behind it"


@pytest.mark.parametrize(("limit", "shown"), [(None, [2]), (1, [0])])
def test_a_stream_that_waited_answers_the_newest_frame(clock, config, scripted, limit, shown):
    class Slow(Sole):
        """Others have the model for a second."""

        shared = True

        def take(self, frame: Frame) -> bool:  # noqa: ARG002
            clock.advance(1.0)
            return True

    def frame(index: int, at_s: float) -> Callable[[], Frame]:
        pixels = ArrayPixels(np.full((36, 64, 3), 60 * index, np.uint8))
        came_ns = clock.now_ns + round(at_s * 1e9)
        return lambda: Frame(index=index, pixels=pixels, captured_ns=came_ns, monotonic_ns=came_ns)

    between = LiveByClock(clock, [(at, frame(n, at)) for n, at in enumerate((0.0, 0.5, 0.9))])
    own = config(policy={"gate": False}, limits={"frames": limit})
    stream = Stream(own, Nothing(), scripted(), clock, hand_over=lambda *_: between, lease=Slow())
    *events, summary = stream.events()
    assert [e.frame for e in events if isinstance(e, AnswerEvent)] == shown
    assert isinstance(summary, SummaryEvent)
    assert summary.frames.answered == 1
    if limit is None:
        assert summary.frames.dropped == {"superseded": 2}
        assert events[0].age_ms == pytest.approx(100, abs=1)


def test_a_question_that_no_model_takes_ends_its_own_stream_only(together):
    number = count()

    def odd() -> None:
        if next(number) == 7:
            raise ContractError("no such thing")

    seen: list[Event] = []
    with pytest.raises(ContractError, match=r"1 of 2 streams failed: [ab]: no such thing"):
        together({"a": Picture(4), "b": Picture(4)}, before_step=odd, seen=seen)
    assert seen[-1].stream == "all"
    whole = [s for s in seen[:-1] if isinstance(s, SummaryEvent)]
    assert [s.frames.answered for s in whole] == [4]


def test_lanes_share_weights_and_not_their_caches(nano: Bundle):
    """Two answers, one paused in the middle of the other, as each is alone: the real model."""
    one, other = load_lanes(2, nano.root, threads=1)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    options: dict[str, Any] = {"max_tokens": 6, "draft": False}
    alone = one.ask(picture, "What is it?", **options)
    other_alone = other.ask(picture, "Where was this taken?", **options)
    inside: list[Any] = []

    def between() -> bool:
        if not inside:
            inside.append(other.ask(picture, "Where was this taken?", **options))
        return False

    again = one.ask(picture, "What is it?", cancelled=between, **options)
    assert again.token_ids == alone.token_ids
    assert inside[0].token_ids == other_alone.token_ids
    assert cache_bytes(nano.manifest) > 0
    one.close()
    assert other.ask(picture, "Where was this taken?", **options).token_ids == other_alone.token_ids
    other.close()
