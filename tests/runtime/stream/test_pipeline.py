from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.errors import BackendError, ConfigError, SourceStalled
from edgevlm.event import AnswerEvent, FaultEvent, SummaryEvent
from edgevlm.frame import ArrayPixels, BadFrame, Frame
from edgevlm.runtime.stream.pipeline import Stream
from tests.runtime.stream.conftest import ListSource


def answers(events) -> list[AnswerEvent]:
    return [e for e in events if isinstance(e, AnswerEvent)]


def test_an_unchanged_scene_reuses_the_last_answer_and_says_of_which_event(play):
    events, summary = play([50, 50, 50, 200, 200], policy={"reuse_every_s": 0})
    shown = [(e.frame, e.reused, e.of) for e in answers(events)]
    assert shown == [(0, False, None), (1, True, 0), (2, True, 0), (3, False, None), (4, True, 3)]
    assert summary.frames.answered == 2
    assert summary.frames.reused == 3
    reused = answers(events)[1]
    assert reused.text == answers(events)[0].text
    assert reused.tokens.output == 0
    assert reused.timings_ms.decode == 0


def test_reuse_events_come_at_most_once_per_interval_and_the_others_are_counted(play):
    events, summary = play([50] * 31, policy={"reuse_every_s": 1.0})
    shown = answers(events)
    assert [e.media_s for e in shown] == [0.0, 1.0, 2.0, 3.0]
    assert [e.reused_frames for e in shown] == [0, 9, 9, 9]
    assert summary.frames.reused == 30


def test_a_slow_drift_is_answered_anew_although_every_step_is_small(play):
    events, _ = play(list(range(50, 90, 2)), policy={"reuse_every_s": 0})
    answered = [e.frame for e in answers(events) if not e.reused]
    steps = [b - a for a, b in itertools.pairwise([*answered, 20])]
    assert len(answered) >= 3
    assert min(steps[:-1]) > 1  # a step alone is none
    assert max(steps) <= 8  # nothing that is more than 14 levels from its answer keeps it


def test_without_the_gate_every_frame_is_answered(play):
    _, summary = play([50] * 5, policy={"gate": False})
    assert (summary.frames.answered, summary.frames.reused) == (5, 0)


def test_a_rate_passes_the_first_frame_and_counts_the_others_as_sampled(play):
    events, summary = play([50] * 21, policy={"rate_hz": 2.0, "gate": False})
    assert [e.media_s for e in answers(events)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert summary.frames.dropped == {"sampled": 16}
    assert answers(events)[1].dropped == {"sampled": 4}


def test_an_undecodable_frame_is_counted_and_reported_with_the_next_event(play):
    events, summary = play([50, None, None, 200])
    assert summary.frames.dropped == {"undecodable": 2}
    assert answers(events)[-1].dropped == {"undecodable": 2}


def test_a_frame_older_than_the_limit_is_dropped_as_stale(clock, config, scripted):
    class Late(ListSource):
        def frames(self) -> Iterator[Frame | BadFrame]:
            for frame in super().frames():
                clock.advance(5.0 if frame.index == 1 else 0.1)
                yield frame

    policy = config(policy={"max_age_s": 1.0})
    stream = Stream(policy, Late([50, 200, 90], clock), scripted(), clock)
    *events, summary = stream.events()
    assert summary.frames.dropped == {"stale": 1}
    assert [e.frame for e in answers(events)] == [0, 2]


def test_sequence_numbers_have_no_gap_and_the_summary_is_the_last(play):
    events, summary = play([50, 200, 50, 200], policy={"gate": False})
    assert [e.seq for e in [*events, summary]] == list(range(5))


def test_a_limit_ends_the_run_after_that_many_frames(play):
    _, summary = play([50, 200] * 10, limits={"frames": 3})
    assert summary.frames.read == 3


def test_a_backend_that_fails_once_gives_a_fault_and_the_stream_goes_on(play, scripted):
    # Step 0 is the constant part of the prompt, 1 and 2 are the first answer; the second frame's
    # prefill confirms the same answer again.
    calls = iter([None] * 3 + [BackendError("the engine hiccuped")] + [None] * 100)

    def hiccup() -> None:
        if (error := next(calls)) is not None:
            raise error

    model = scripted((28120, 2), before_step=hiccup)
    events, summary = play([50, 200, 100], model=model)
    faults = [e for e in events if isinstance(e, FaultEvent)]
    assert [f.code for f in faults] == ["backend"]
    assert "hiccuped" in faults[0].message
    assert summary.frames.failed == 1
    assert [e.frame for e in answers(events)] == [0, 2]


def test_a_backend_that_keeps_failing_ends_the_run_behind_its_summary(clock, config, scripted):
    def broken() -> None:
        raise BackendError("the engine is gone")

    stream = Stream(config(), ListSource([50, 200] * 5, clock), scripted(before_step=broken), clock)
    seen = []
    with pytest.raises(BackendError, match="gone"):
        seen.extend(iter_into(stream.events(), seen))
    assert isinstance(seen[-1], SummaryEvent)
    assert seen[-1].frames.failed == 3


def iter_into(events, seen):
    for event in events:
        seen.append(event)
    return []


def test_a_source_that_stalls_gives_a_fault_a_summary_and_its_error(clock, config, scripted):
    class Stalling(ListSource):
        def frames(self) -> Iterator[Frame | BadFrame]:
            yield from super().frames()
            raise SourceStalled("no frame for 10 s")

    seen = []
    with pytest.raises(SourceStalled, match="no frame"):
        iter_into(Stream(config(), Stalling([50], clock), scripted(), clock).events(), seen)
    assert [e.kind for e in seen] == ["answer", "fault", "summary"]
    assert seen[1].code == "stall"


def test_freshest_on_a_file_is_refused_with_the_remedy(clock, config, scripted):
    with pytest.raises(ConfigError, match="--realtime"):
        Stream(config(policy={"mode": "freshest"}), ListSource([1], clock), scripted(), clock)


def test_stopping_ends_between_tokens_and_says_cancelled(clock, config, scripted):
    steps = []
    model = scripted((28120,), before_step=lambda: steps.append(1))  # never ends by itself
    stream = Stream(
        config(generation={"max_tokens": 1000}),
        ListSource([50] * 9, clock),
        model,
        clock,
        stopped=lambda: len(steps) >= 5,
    )
    *events, summary = stream.events()
    assert [e.finish_reason for e in answers(events)] == ["cancelled"]
    assert len(steps) <= 6
    assert summary.frames.read == 1


class LiveSource:
    """Frames as fast as they can be put, on whichever thread iterates."""

    name = "live"
    live = True

    def __init__(self, count: int, pause_s: float) -> None:
        self._count = count
        self._pause_s = pause_s

    def frames(self) -> Iterator[Frame | BadFrame]:
        for index in range(self._count):
            time.sleep(self._pause_s)
            yield Frame(
                index=index,
                pixels=ArrayPixels(np.full((36, 64, 3), index * 40 % 256, np.uint8)),
                captured_ns=time.time_ns(),
                monotonic_ns=time.monotonic_ns(),
            )

    def close(self) -> None:
        pass


def test_a_live_source_keeps_the_newest_frame_and_counts_the_superseded(config, scripted):
    model = scripted(before_step=lambda: time.sleep(0.02))
    *events, summary = Stream(config(), LiveSource(60, 0.005), model).events()
    frames = summary.frames
    assert frames.dropped["superseded"] > 0
    assert frames.read == 60
    assert frames.read == frames.answered + frames.reused + sum(frames.dropped.values())
    indices = [e.frame for e in answers(events)]
    assert indices == sorted(indices)


def test_a_run_leaves_no_thread_behind(config, scripted):
    before = threading.active_count()
    stream = Stream(config(limits={"frames": 2}), LiveSource(1000, 0.002), scripted())
    summary = list(stream.events())[-1]
    assert summary.kind == "summary"
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@st.composite
def gate_lists(draw) -> list[dict]:
    """Gates in any order that a config takes."""
    kinds = {
        "pixel": {"blocks": st.integers(1, 3600)},
        "motion": {"still_s": st.floats(0, 1), "share": st.floats(0, 0.9)},
        "silence": {"every_s": st.floats(0.05, 3)},
        "scene": {"least_s": st.floats(0, 2), "on": st.sampled_from(["luma", "features"])},
        "feature": {"patches": st.integers(1, 49)},
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=4))
    if chosen and chosen[-1] == "silence":
        chosen.append("pixel")
    return [
        {"kind": kind, "name": f"{kind} {n}", **{k: draw(v) for k, v in kinds[kind].items()}}
        for n, kind in enumerate(chosen)
    ]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    levels=st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=40),
    rate=st.one_of(st.none(), st.floats(0.5, 20)),
    reuse=st.floats(0, 3),
    gate=st.booleans(),
    gates=gate_lists(),
    limit=st.one_of(st.none(), st.integers(1, 30)),
    failures=st.sets(st.integers(0, 60), max_size=2),
)
def test_every_frame_is_accounted_for_once(
    play, scripted, levels, rate, reuse, gate, gates, limit, failures
):
    step = iter(range(10_000))

    def sometimes() -> None:
        if next(step) in failures:
            raise BackendError("on purpose")

    events, summary = play(
        levels,
        model=scripted(before_step=sometimes),
        policy={"rate_hz": rate, "reuse_every_s": reuse, "gate": gate},
        limits={"frames": limit},
        gates=gates,
    )
    frames = summary.frames
    assert frames.read == min(len(levels), limit or len(levels))
    assert frames.read == (
        frames.answered + frames.reused + sum(frames.dropped.values()) + frames.failed
    )
    shown = answers(events)
    assert sum(not e.reused for e in shown) == frames.answered
    assert sum(e.reused for e in shown) + sum(e.reused_frames for e in shown) <= frames.reused
    assert [e.seq for e in [*events, summary]] == list(range(len(events) + 1))
    for event in shown:
        if event.reused:
            assert event.of is not None
            assert event.of < event.seq
    told = summary.gates["main"]
    assert [t.kind for t in told] == ([g["kind"] for g in gates] if gate else [])
    stopped = sum(t.stopped for t in told)
    assert stopped >= frames.reused + frames.dropped.get("moving", 0)
    for before, behind in itertools.pairwise(told):
        let_through = before.asked - before.stopped
        assert behind.asked == let_through
