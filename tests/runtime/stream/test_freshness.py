"""The freshness contract, on a clock that only the model and the script move."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.event import AnswerEvent, Event, FaultEvent, SummaryEvent
from edgevlm.frame import ArrayPixels, BadFrame, Frame, FrameItem, SourceFault
from edgevlm.runtime.stream.pipeline import Stream
from tests.runtime.stream.conftest import ManualClock
from tests.runtime.stream.live import LiveByClock, Nothing

WORD = 28120
Played = tuple[list[Event], SummaryEvent]


@pytest.fixture
def live(config, scripted, nano) -> Callable[..., Played]:
    """Run a script of (seconds, level) through a model of so many seconds a step.

    A level of None is a frame that cannot be decoded; a text is what the source reports. ``warm``
    takes the model of the call before.
    """
    end = nano.manifest.prompt.stop_token_ids[0]
    steps: list[Callable[[], None]] = [lambda: None]
    models: dict[int, Any] = {}

    def model_of(tokens: int, warm: bool) -> Any:
        if not warm or tokens not in models:
            words = (*[WORD] * (tokens - 1), end)
            models[tokens] = scripted(words, before_step=lambda: steps[0]())
        return models[tokens]

    def run(
        script: list[tuple[float, int | str | None]],
        *,
        step_s: float,
        tokens: int = 1,
        warm: bool = False,
        **sections: Any,
    ) -> Played:
        clock = ManualClock()
        sections = {"generation": {"draft": False}, **sections}  # a draft would change the steps
        due: list[tuple[float, Callable[[], FrameItem]]] = []
        index = 0
        for at_s, level in script:
            if isinstance(level, str):
                due.append((at_s, lambda m=level: SourceFault(code="stall", message=m)))
                continue
            due.append((at_s, frame(index, at_s, level)))
            index += 1
        model = model_of(tokens, warm)
        steps[0] = lambda: clock.advance(step_s)
        hand_over = LiveByClock(clock, due)
        stream = Stream(config(**sections), Nothing(), model, clock, hand_over=lambda *_: hand_over)
        *events, summary = stream.events()
        assert isinstance(summary, SummaryEvent)
        return events, summary

    return run


def frame(index: int, at_s: float, level: int | None):
    def make() -> FrameItem:
        if level is None:
            return BadFrame(index=index, reason="damaged on purpose")
        # It came when it was due, although the model may have been busy since then.
        came_ns = 1_000_000_000 + round(at_s * 1e9)
        pixels = ArrayPixels(np.full((36, 64, 3), level, np.uint8))
        return Frame(index=index, pixels=pixels, captured_ns=came_ns, monotonic_ns=came_ns)

    return make


def answers(events: list[Event]) -> list[AnswerEvent]:
    return [e for e in events if isinstance(e, AnswerEvent)]


BOUND = {"max_age_s": 1.0}


def test_a_hopeless_answer_is_given_up_for_a_frame_with_another_scene(live):
    script = [(0, 50), (0.5, 200), (1.0, 90)]
    events, summary = live(script, step_s=0.1, tokens=8, policy=BOUND)
    shown = answers(events)
    assert [(e.frame, e.finish_reason) for e in shown] == [(0, "stop"), (2, "stop")]
    assert summary.frames.dropped == {"superseded": 1}
    assert shown[1].dropped == {"superseded": 1}
    # Given up as soon as the newer frame was there, and not at its own bound half a second later.
    assert shown[1].age_ms == pytest.approx(800, abs=1)


def test_it_is_kept_where_the_waiting_frame_shows_the_same_scene(live):
    script = [(0, 50), (0.5, 200), (1.0, 200)]
    events, _ = live(script, step_s=0.1, tokens=8, policy=BOUND)
    shown = [(e.frame, e.finish_reason) for e in answers(events)]
    assert shown[:2] == [(0, "stop"), (1, "deadline")]
    assert answers(events)[1].age_ms <= 1000


def test_an_answer_that_will_be_in_time_is_never_given_up(live):
    script = [(0, 50), (1.0, 200), (1.1, 90), (1.2, 30)]
    events, summary = live(script, step_s=0.1, tokens=8, policy=BOUND)
    assert [(e.frame, e.finish_reason) for e in answers(events)][:2] == [(0, "stop"), (1, "stop")]
    assert summary.frames.dropped["superseded"] == 1  # frame 2, which waited behind


def test_without_a_bound_every_answer_is_finished(live):
    script = [(n / 10, 50 * (n % 4)) for n in range(40)]
    events, _ = live(script, step_s=0.3, tokens=8)
    assert {e.finish_reason for e in answers(events)} == {"stop"}


def test_no_two_answers_in_a_row_are_given_up(live):
    """A scene that never rests and a model that is always too slow: every second one comes out."""
    script = [(0, 10), *((1 + n / 20, 40 * (n % 6)) for n in range(200))]
    events, summary = live(script, step_s=0.1, tokens=8, policy={"max_age_s": 0.9, "gate": False})
    assert summary.frames.answered >= 6
    assert {e.finish_reason for e in answers(events)} <= {"stop", "deadline"}
    assert max(e.age_ms for e in answers(events)) <= 900


def test_a_model_that_is_always_too_late_is_said_once_and_gives_nothing_out(live):
    script = [(n / 2, 50 * (n % 4)) for n in range(40)]
    events, summary = live(script, step_s=2.0, policy=BOUND)
    assert answers(events) == []
    assert summary.frames.dropped["stale"] >= 3
    faults = [e for e in events if isinstance(e, FaultEvent)]
    assert [f.code for f in faults] == ["overload"]
    assert "bound of 1 s" in faults[0].message
    assert "--max-age" in faults[0].message


def test_what_a_source_reports_comes_out_in_its_place(live):
    script = [(0, 50), (1, "went away"), (2, "came back"), (3, 200)]
    events, summary = live(script, step_s=0.01)
    assert [e.kind for e in events] == ["answer", "fault", "fault", "answer"]
    assert [e.message for e in events[1:3]] == ["went away", "came back"]
    assert summary.frames.read == 2


@pytest.mark.parametrize("jump_s", [-1_600_000_000, 14 * 86400, -1])
def test_a_wall_clock_that_jumps_changes_no_age_and_no_decision(live, monkeypatch, jump_s):
    """1970 late in boot, two weeks ahead, a step of NTP: ages and bounds are monotonic."""
    script = [(n / 2, 50 * (n % 4)) for n in range(12)]
    steady, _ = live(script, step_s=0.1, policy=BOUND, limits={"duration_s": 4.0})

    def jumping(self) -> int:
        return 1_700_000_000_000_000_000 + self.now_ns + (self.now_ns > 3e9) * jump_s * 10**9

    monkeypatch.setattr(ManualClock, "wall_ns", jumping)
    jumped, _ = live(script, step_s=0.1, policy=BOUND, limits={"duration_s": 4.0})
    assert [(e.frame, e.age_ms, e.reused) for e in answers(jumped)] == [
        (e.frame, e.age_ms, e.reused) for e in answers(steady)
    ]
    assert {e.boot_id for e in answers(jumped)} == {e.boot_id for e in answers(steady)}


levels = st.one_of(st.integers(0, 255), st.none(), st.just("a fault"))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    script=st.lists(st.tuples(st.floats(0, 0.5), levels), max_size=40),
    step_s=st.floats(0.001, 1.5),
    tokens=st.integers(1, 6),
    max_age_s=st.one_of(st.none(), st.floats(0.05, 3)),
    rate_hz=st.one_of(st.none(), st.floats(0.5, 20)),
    gate=st.booleans(),
    limit=st.one_of(st.none(), st.integers(1, 30)),
)
def test_every_frame_counts_once_and_no_answer_is_older_than_the_bound(
    live, script, step_s, tokens, max_age_s, rate_hz, gate, limit
):
    at_s, timed = 0.0, []
    for gap_s, level in script:
        at_s += gap_s
        timed.append((at_s, level))
    events, summary = live(
        timed,
        step_s=step_s,
        tokens=tokens,
        warm=True,
        policy={"max_age_s": max_age_s, "rate_hz": rate_hz, "gate": gate, "reuse_every_s": 0},
        limits={"frames": limit},
    )
    frames = summary.frames
    assert frames.read == (
        frames.answered + frames.reused + sum(frames.dropped.values()) + frames.failed
    )
    delivered = sum(not isinstance(level, str) for _, level in timed)
    if limit is None:
        assert frames.read == delivered
        reported = [e for e in events if isinstance(e, FaultEvent) and e.code == "stall"]
        assert len(reported) == sum(isinstance(level, str) for _, level in timed)
    shown = answers(events)
    assert len(shown) == frames.answered + frames.reused
    assert [e.seq for e in [*events, summary]] == list(range(len(events) + 1))
    assert all(a.frame < b.frame for a, b in pairwise(shown))
    assert all(e.age_ms >= 0 for e in shown)
    if max_age_s is not None:
        assert all(e.age_ms <= max_age_s * 1000 + 0.001 for e in shown)
    for event in shown:
        assert event.finish_reason != "cancelled"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    step_s=st.floats(0.01, 0.3),
    tokens=st.integers(1, 30),
    gap_s=st.floats(0.02, 0.2),
    seed=st.integers(0, 2**16),
)
def test_answers_keep_coming_at_any_model_speed(live, step_s, tokens, gap_s, seed):
    """Between two answers lie at most two bounds, however slow the model and wild the scene."""
    bound_s = 1.0
    rng = np.random.default_rng(seed)
    script = [(n * gap_s, int(rng.integers(256))) for n in range(60)]
    policy = {"max_age_s": bound_s, "gate": False}
    events, _ = live(script, step_s=step_s, tokens=tokens, warm=True, policy=policy)
    ends_s = [e.monotonic_ns / 1e9 - 1 + e.age_ms / 1e3 for e in answers(events)]
    limit_s = 2 * bound_s + 2 * gap_s + 2 * step_s
    assert ends_s[0] <= limit_s
    assert all(b - a <= limit_s for a, b in pairwise(ends_s))
    assert script[-1][0] - ends_s[-1] <= limit_s
