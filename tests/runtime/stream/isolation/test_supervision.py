"""A model's process that hangs, dies or talks nonsense is replaced, a few times and no more.

The processes are real; what they do wrong is in ``broken_child``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgevlm.config import make_config
from edgevlm.errors import (
    BackendError,
    BackendGone,
    ConfigError,
    ContractError,
    EngineMismatch,
)
from edgevlm.event import FaultEvent, SummaryEvent
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.isolation import supervisor
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.model import Kept
from edgevlm.runtime.stream.pipeline import Stream
from tests.runtime.stream.conftest import ListSource, ManualClock
from tests.runtime.stream.isolation.conftest import alive

Make = Callable[..., Isolated]
SHORT = {"step_s": 0.5, "answer_s": 1.0}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no message", r"wrote something that is no message and was killed"),
        ("endless", r"wrote something that is no message and was killed"),
        ("half", r"began a message and did not end it and was killed"),
        ("no JSON", r"wrote something that is no message: .* and was killed"),
        ("deep", r"wrote something that is no message: .* and was killed"),
        ("pickle", r"wrote something that is no message: .* and was killed"),
        ("unknown kind", r"wrote something that is no message: .* and was killed"),
        ("no answer", r"no message: .*finish_reason.* and was killed"),
        ("too few", r"gave something else than answers and was killed"),
        ("stale", r"said answered out of turn and was killed"),
        ("outside", r"gave an array up to byte \d+ of 0 and was killed"),
        ("no tree", r"gave something else than answers and was killed"),
        ("for ever", r"has not ended an answer in 1 s and was killed"),
        ("silent", r"has given no sign of life for 0.5 s and was killed"),
        ("killed", r"closed its connection and ended by SIGKILL"),
        ("aborted", r"closed its connection and ended by SIGABRT"),
        ("exits", r"closed its connection and ended with exit code 7 \(out of luck\)"),
    ],
)
def test_whatever_a_process_does_wrong_costs_one_answer_and_names_the_reason(
    broken: Make, how: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "SEND_S", 0.5)
    monkeypatch.setattr("edgevlm.runtime.stream.isolation.exchange.SEND_S", 0.5)
    model = broken(how, SHORT)
    pid = model.process.pid
    begun = time.monotonic()
    with pytest.raises(BackendError, match=said) as error:
        model.ask(None, "well?")
    assert "another is started at once (loss 1 of at most 5 within 60 s)" in str(error.value)
    assert time.monotonic() - begun < 10
    assert pid is not None
    assert not alive(pid)
    assert model.process.pid is None


def test_a_process_that_is_well_answers_and_what_it_prints_holds_nobody_up(broken: Make):
    model = broken("chatty", SHORT)
    for _ in range(3):
        assert model.ask(None, "well?").text == "fine"
    assert isinstance(model, Kept)
    assert list(model.poll()) == []


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("dead at the start", BackendError, r"ended with exit code 3 \(no such engine\)"),
        ("cannot load", EngineMismatch, "old"),
        ("never ready", BackendError, r"has not loaded the model in 0.5 s and was killed"),
    ],
)
def test_a_first_process_that_does_not_come_up_ends_the_run_before_it_begins(
    broken: Make, how: str, kind: type[Exception], said: str
):
    with pytest.raises(kind, match=said):
        broken(how, {"start_s": 0.5 if how == "never ready" else 60})


def test_a_process_that_does_not_come_back_is_a_failure_each_time(broken: Make):
    model = broken("cannot load again", {"start_s": 60})
    os.kill(model.process.pid or 0, 9)
    said: list[Any] = []
    while len(said) < 3:
        said += model.poll()
        time.sleep(0.01)
    assert "broke off while nobody asked and ended by SIGKILL" in str(said[0])
    assert "could not load the model (old) and ended with exit code 0" in str(said[1])
    assert "another is started in 0.5 s (loss 2 of at most 5" in str(said[1])
    assert not any(isinstance(notice, BackendGone | Notice) for notice in said)


def test_too_many_losses_within_the_window_end_it_and_old_ones_do_not_count(
    broken: Make, monkeypatch: pytest.MonkeyPatch
):
    clock = ManualClock()
    monkeypatch.setattr(supervisor, "WAITS_S", (0.0, 0.5, 1.0))
    monkeypatch.setattr(supervisor, "MOST", 3)
    model = broken("killed", clock=clock)
    waits = []
    for _ in range(3):
        with pytest.raises(BackendError, match="another is started") as error:
            model.ask(None, "well?")
        waits.append(str(error.value).split("started ")[1].split(" (")[0])
    assert waits == ["at once", "in 0.5 s", "in 1 s"]
    clock.advance(61)
    with pytest.raises(BackendError, match=r"at once \(loss 1 of at most 3"):
        model.ask(None, "well?")
    for _ in range(2):
        with pytest.raises(BackendError, match="another is started"):
            model.ask(None, "well?")
    with pytest.raises(BackendGone, match="that was loss 4 within 60 s: none is started"):
        model.ask(None, "well?")
    with pytest.raises(BackendGone, match="loss 4"):
        model.ask(None, "well?")
    assert all(isinstance(notice, Notice) for notice in model.poll())
    assert model.process.pid is None


def test_a_stream_whose_process_is_gone_for_good_ends_behind_its_summary(
    broken: Make, clock: ManualClock, config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "MOST", 1)
    model = broken("killed", clock=clock)
    stream = Stream(config(), ListSource([50, 200] * 9, clock), model, clock, kept=model)
    seen: list[Any] = []
    with pytest.raises(BackendGone):
        seen.extend(_into(stream.events(), seen))
    assert [e.kind for e in seen] == ["fault", "fault", "summary"]
    assert all(isinstance(e, FaultEvent) and e.code == "backend" for e in seen[:-1])
    summary = seen[-1]
    assert isinstance(summary, SummaryEvent)
    assert (summary.frames.read, summary.frames.failed) == (2, 2)


def _into(events: Any, seen: list[Any]) -> list[Any]:
    for event in events:
        seen.append(event)
    return []


def test_who_waits_for_another_process_may_give_up(broken: Make, monkeypatch: pytest.MonkeyPatch):
    model = broken("killed", {"start_s": 60})
    with pytest.raises(BackendError, match="at once"):
        model.ask(None, "well?")
    monkeypatch.setenv("EDGEVLM_TEST_BROKEN", "never ready")
    asked: list[int] = []

    def given_up() -> bool:
        asked.append(1)
        return len(asked) == 3

    answer = model.ask(None, "well?", cancelled=given_up)
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("", (), "cancelled")
    assert len(asked) == 3
    assert model.process.pid is not None  # it goes on loading


def test_a_stop_of_the_run_does_not_wait_for_a_process_that_hangs(
    broken: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edgevlm.runtime.stream.isolation.exchange.STOP_S", 0.2)
    model = broken("silent", {"step_s": 60, "answer_s": 60}, stopped=lambda: True)
    begun = time.monotonic()
    with pytest.raises(BackendError, match=r"still at work 0.2 s after the run was stopped"):
        model.ask(None, "well?")
    assert time.monotonic() - begun < 20


def test_close_is_legal_in_every_state(broken: Make):
    idle = broken("well")
    idle.close()
    idle.close()
    with pytest.raises(ContractError, match="closed"):
        idle.ask(None, "well?")
    assert list(idle.poll()) == []

    lost = broken("killed")
    with pytest.raises(BackendError):
        lost.ask(None, "well?")
    lost.close()

    loading = broken("cannot load again", {"start_s": 60})
    os.kill(loading.process.pid or 0, 9)
    while loading.process.pid is None or not list(loading.poll()):
        time.sleep(0.01)
    list(loading.poll())
    loading.close()

    from_within = broken("for ever", {"answer_s": 60})
    with pytest.raises(ContractError, match="closed"):
        from_within.ask(None, "well?", cancelled=lambda: bool(from_within.close()))

    asking = broken("silent", {"step_s": 60, "answer_s": 60})
    closer = threading.Timer(0.3, asking.close)
    closer.start()
    with pytest.raises(ContractError, match="closed while it was answering"):
        asking.ask(None, "well?")
    closer.join()


def test_a_second_caller_is_refused_and_a_stop_rule_that_raises_costs_the_process(broken: Make):
    model = broken("for ever", {"answer_s": 60})

    def again() -> bool:
        with pytest.raises(ContractError, match="answering another call"):
            model.ask(None, "me too?")
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        model.ask(None, "well?", cancelled=again)
    assert model.process.pid is None


def test_limits_of_a_process_need_one():
    raw = {"bundle": "-", "ask": "?", "source": {"uri": "-"}, "limits": {"step_s": 3}}
    with pytest.raises(ConfigError, match=r"limits.step_s is of an isolated model: set engine.iso"):
        make_config(raw)
    assert make_config({**raw, "engine": {"isolate": True}}).limits.step_s == 3
    window = {"seconds": 5, "memory": "cache"}
    with pytest.raises(ConfigError, match="needs the model in this process"):
        make_config({**raw, "window": window, "engine": {"isolate": True}})
