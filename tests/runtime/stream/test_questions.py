"""Several questions in one stream: one look at a frame, and each question's own answers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevlm.bundle import Bundle
from edgevlm.config import RunConfig, make_config
from edgevlm.errors import BackendError, ConfigError
from edgevlm.event import AnswerEvent, Event, StateEvent, SummaryEvent
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.many import Stop
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.format import read_decisions, read_header
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.recording.recorder import Recorder
from edgevlm.runtime.stream.recording.replay import replay, replay_config
from edgevlm.runtime.stream.run import _delivered, run
from edgevlm.runtime.stream.sinks import Sinks
from edgevlm.runtime.stream.totals import Totals
from tests.runtime.stream.conftest import ListSource, ManualClock

TWO = ["What is it?", "Is it broken?"]
YES = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}


def shown(events: list[Event]) -> list[tuple[int, str, bool, int | None]]:
    """Frame, question, reused and of, of every answer."""
    found = [e for e in events if isinstance(e, AnswerEvent)]
    return [(e.frame, e.question, e.reused, e.of) for e in found]


def test_every_question_has_an_event_on_every_frame_and_a_frame_counts_once(play):
    events, summary = play([50, 50, 200], ask=TWO, policy={"reuse_every_s": 0})
    first, second = TWO
    assert shown(events) == [
        (0, first, False, None), (0, second, False, None),
        (1, first, True, 0), (1, second, True, 1),
        (2, first, False, None), (2, second, False, None),
    ]  # fmt: skip
    assert [e.seq for e in [*events, summary]] == list(range(7))
    assert (summary.frames.answered, summary.frames.reused) == (2, 1)


def test_what_was_dropped_before_is_told_once(play):
    events, summary = play([50, None, 200, 200, 200, 90], ask=TWO)
    told = [e for e in events if isinstance(e, AnswerEvent)]
    assert [(e.frame, e.dropped, e.reused_frames) for e in told] == [
        (0, {}, 0), (0, {}, 0),
        (2, {"undecodable": 1}, 0), (2, {}, 0),
        (5, {}, 2), (5, {}, 0),
    ]  # fmt: skip
    assert summary.frames.reused == 2


@pytest.fixture
def cut_short(
    clock: ManualClock, config: Callable[..., RunConfig], scripted: Callable[..., Vlm]
) -> Callable[..., list[Event]]:
    """A still scene under a bound that one answer keeps and two do not; recorded where asked."""

    def run_it(folder: Path | None = None, **sections: Any) -> list[Event]:
        model = scripted((28120,), before_step=lambda: clock.advance(0.1))  # never ends by itself
        made = config(
            ask=TWO,
            policy={"max_age_s": 1.2, "reuse_every_s": 0},
            generation={"max_tokens": 6, "draft": False},
            **sections,
        )
        recorders = [] if folder is None else [
            Recorder(folder, made, model.bundle.manifest, live=False)
        ]  # fmt: skip
        sinks = Sinks(recorders)
        stream = Stream(made, ListSource([50] * 3, clock), model, clock, watcher=sinks)
        events = list(_delivered(stream, sinks))
        for recorder in recorders:
            recorder.close()
        return events

    return run_it


def test_a_question_that_was_cut_short_is_asked_again_and_only_that_one(cut_short):
    events = cut_short()
    first, second = TWO
    assert shown(events) == [
        (0, first, False, None), (0, second, False, None),
        (1, second, False, None), (1, first, True, 0),
        (2, first, True, 0), (2, second, True, 2),
    ]  # fmt: skip
    ends = [e.finish_reason for e in events[:3]]
    assert ends == ["length", "deadline", "length"]
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    assert (summary.frames.read, summary.frames.answered, summary.frames.reused) == (3, 2, 1)


def test_a_replay_asks_which_questions_the_recording_asked(cut_short, tmp_path, scripted, clock):
    recorded = cut_short(tmp_path / "r")
    asks = [d.asks for d in read_decisions(tmp_path / "r") if d.do in ("answer", "reuse")]
    assert asks == [(), (1,), ()]
    again = Stream(
        replay_config(read_header(tmp_path / "r"), {"bundle": "-"}),
        ListSource([], clock),
        scripted((28120,)),
        clock,
        playback=lambda account: Playback(tmp_path / "r", account),
    )
    replayed = list(again.events())
    assert shown(replayed) == shown(recorded)
    assert replayed[-1].frames == recorded[-1].frames


def test_a_rule_looks_at_the_answers_to_its_question(play):
    rules = [{"name": n, "question": q, "when": ["tokens.output > 0"]} for n, q in
             (("it", TWO[0]), ("broken", TWO[1]))]  # fmt: skip
    events, _ = play([50, 50], ask=TWO, rules=rules)
    states = {e.rule: e for e in events if isinstance(e, StateEvent)}
    assert {name: e.question for name, e in states.items()} == {"it": TWO[0], "broken": TWO[1]}
    assert states["broken"].evidence == (2,)
    with pytest.raises(ConfigError, match="'late' is about 'When', which is not asked"):
        play([50], ask=TWO, rules=[{"name": "late", "question": "When", "when": ["seq > 0"]}])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ([], "ask"),
        (["", "b"], "ask.0.text"),
        (["a", "a"], "'a' is asked twice"),
        ([1], "ask.0"),
        ([{"text": "a", "shema": "x"}], "did you mean 'schema'"),
    ],
)
def test_questions_that_cannot_be_asked(config, ask, said):
    with pytest.raises(ConfigError, match=said):
        config(ask=ask)


def test_a_window_is_for_one_question(config):
    with pytest.raises(ConfigError, match="a window is for one question"):
        config(ask=TWO, window={"seconds": 8})


def test_what_a_frame_took_is_the_sum_of_its_answers(play, clock):
    events, summary = play([50, 200, 90], ask=TWO, policy={"gate": False})
    totals = Totals("all", clock)
    for event in [*events, summary]:
        totals.take(event)
    whole = totals.summary()
    by_frame: dict[int, list[AnswerEvent]] = defaultdict(list)
    for event in events:
        by_frame[event.frame].append(event)
    prefills = [sum(e.timings_ms.prefill for e in about) for about in by_frame.values()]
    median = sorted(prefills)[1]
    for told in (summary, whole):
        assert told.stages_ms["prefill"].p50 == pytest.approx(median, abs=0.002)
        assert told.stages_ms["total"].p50 == pytest.approx(events[0].age_ms, abs=0.002)
    assert whole.frames == summary.frames


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    levels=st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=25),
    asked=st.integers(1, 5),
    age=st.one_of(st.none(), st.floats(0.1, 3)),
    failures=st.sets(st.integers(0, 60), max_size=2),
    stop=st.one_of(st.none(), st.integers(1, 80)),
    draft=st.booleans(),
    reuse=st.floats(0, 1),
)
def test_every_frame_is_accounted_for_once_however_many_questions(
    config, scripted, levels, asked, age, failures, stop, draft, reuse
):
    clock, steps = ManualClock(), itertools.count()
    step = 0

    def sometimes() -> None:
        nonlocal step
        step = next(steps)
        clock.advance(0.05)
        if step in failures:
            raise BackendError("on purpose")

    made = config(
        ask=[f"Question {n}?" for n in range(asked)],
        policy={"max_age_s": age, "reuse_every_s": reuse},
        generation={"max_tokens": 4, "draft": draft},
    )
    model = scripted((28120,), before_step=sometimes)
    stopped = Stop(lambda: stop is not None and step >= stop)
    *events, summary = Stream(made, ListSource(levels, clock), model, clock, stopped).events()
    frames = summary.frames
    assert frames.read == (
        frames.answered + frames.reused + sum(frames.dropped.values()) + frames.failed
    )
    assert [e.seq for e in [*events, summary]] == list(range(len(events) + 1))
    told = [e for e in events if isinstance(e, AnswerEvent)]
    new = [e for e in told if not e.reused]
    assert len({e.frame for e in new}) == frames.answered
    assert len({(e.frame, e.question) for e in told}) == len(told)
    by_seq = {e.seq: e for e in told}
    for event in told:
        if age is not None and not event.reused:
            assert event.age_ms <= age * 1e3
        if event.reused:
            original = by_seq[event.of]
            assert (original.question, original.reused) == (event.question, False)
            assert original.finish_reason in ("stop", "length")
            between = [e for e in new if event.of < e.seq < event.seq]
            assert event.question not in {e.question for e in between}
    assert sum(sum(e.dropped.values()) for e in told) <= sum(frames.dropped.values())


@pytest.fixture
def pictures(tmp_path: Path, photograph: Callable[[str], Path]) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, name in enumerate(["astronaut.png", "astronaut.png", "coffee.png"]):
        with Image.open(photograph(name)) as picture:
            picture.convert("RGB").resize((320, 240)).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("draft", [True, False])
def test_a_stream_answers_each_question_as_if_it_were_asked_alone(
    nano: Bundle, model: Vlm, pictures: Path, tmp_path: Path, draft: bool
):
    asked = [TWO[0], {"text": TWO[1], "schema": YES}]
    config = {
        "bundle": str(nano.root), "ask": asked, "source": {"uri": str(pictures)},
        "generation": {"max_tokens": 8, "draft": draft}, "record": str(tmp_path / "r"),
    }  # fmt: skip
    events = list(run(make_config(config)))
    new = [e for e in events if isinstance(e, AnswerEvent) and not e.reused]
    assert [e.frame for e in new] == [0, 0, 2, 2]
    for event in new:
        with Image.open(pictures / f"{event.frame}.png") as picture:
            image = np.asarray(picture)
        schema = YES if event.question == TWO[1] else None
        alone = model.ask(image, event.question, schema=schema, max_tokens=8, draft=False)
        assert (event.text, event.answer) == (alone.text, alone.answer)
        assert event.tokens.visual == alone.tokens.visual
    assert [e.timings_ms.encode > 0 for e in new] == [True, False, True, False]
    again = replay(tmp_path / "r", replay_config(read_header(tmp_path / "r"), {}))
    assert [(e.question, e.text, e.tokens) for e in again if isinstance(e, AnswerEvent)] == [
        (e.question, e.text, e.tokens) for e in events if isinstance(e, AnswerEvent)
    ]
