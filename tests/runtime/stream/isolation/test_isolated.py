"""A real model in a process of its own: the same answers, and a stream that outlives the process.

Rows 16 to 18 of the fault list: inference that hangs, a process that crashes, memory that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.box import BoxConfig
from edgevlm.bundle import Bundle
from edgevlm.errors import (
    BackendError,
    ContextOverflow,
    ContractError,
    ImageError,
    SchemaError,
)
from edgevlm.event import EVENTS, AnswerEvent, FaultEvent, SummaryEvent
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.run import run
from tests.runtime.stream.conftest import ListSource, ManualClock
from tests.runtime.stream.isolation.conftest import CHILD, alive

Make = Callable[..., Isolated]
SCHEMA = {
    "type": "object",
    "properties": {"person": {"type": "boolean"}, "where": {"type": "string", "maxLength": 8}},
    "required": ["person", "where"],
}


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (120, 200, 3), np.uint8)


def test_answers_are_those_of_the_same_model_in_this_process(
    isolate: Make, model: Vlm, picture: np.ndarray, photograph: Callable[[str], Path]
):
    there: Model = isolate()
    here: Model = model
    taught_there, taught_here = Drafts(), Drafts()
    asked: list[dict[str, Any]] = [
        {"image": picture, "question": "What is it?", "draft": taught_there},
        {"image": picture, "question": "What is it?", "draft": taught_there},
        {"image": [picture, photograph("coffee.png")], "question": "What changed?"},
        {"image": picture, "question": "Who?", "temperature": 0.8, "seed": 7, "system": "Short."},
        {"image": picture, "question": "Is there a person?", "schema": SCHEMA},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "Before"}, {"type": "image", "image": picture},
            {"type": "text", "text": "or after?"}]}]},
    ]  # fmt: skip
    for question in asked:
        far = there.ask(**question, max_tokens=6)
        near = here.ask(
            **{k: taught_here if v is taught_there else v for k, v in question.items()},
            max_tokens=6,
        )
        same = ("text", "token_ids", "finish_reason", "answer", "tokens", "backend", "confidence")
        assert [getattr(far, k) for k in same] == [getattr(near, k) for k in same]
    assert taught_there == taught_here != Drafts()

    seen = there.encode(picture)
    np.testing.assert_array_equal(seen.tokens, here.encode(picture).tokens)
    questions: list[str | tuple[str, Any]] = ["What?", ("Is there a person?", SCHEMA)]
    many_there, many_here = [Drafts(), Drafts()], [Drafts(), Drafts()]
    for together in (True, False, False):
        far_many = there.ask_many(
            picture, questions, max_tokens=4, draft=many_there, together=together
        )
        near_many = here.ask_many(
            picture, questions, max_tokens=4, draft=many_here, together=together
        )
        assert [(a.text, a.tokens) for a in far_many] == [(a.text, a.tokens) for a in near_many]
        assert many_there == many_here
    assert all(taught != Drafts() for taught in many_there)
    assert (there.parity, there.missed, there.bundle.id) == (here.parity, None, here.bundle.id)


def test_errors_keep_their_kind_and_cost_no_process(isolate: Make, picture: np.ndarray):
    there = isolate()
    pid = there.process.pid
    cases: list[tuple[type[Exception], dict[str, Any]]] = [
        (ContractError, {"image": picture, "question": "?", "max_tokens": 0}),
        (ContractError, {"image": picture, "question": "?", "max_tokens": "many"}),
        (ContractError, {"image": picture.astype(float), "question": "?"}),
        (ContractError, {"image": picture, "question": object()}),
        (ContextOverflow, {"image": picture, "question": "why " * 5000}),
        (ImageError, {"image": "/no/such.png", "question": "?"}),
        (SchemaError, {"image": picture, "question": "?", "schema": {"type": "no"}}),
    ]
    for kind, question in cases:
        with pytest.raises(kind):
            there.ask(**question)
    with pytest.raises(ContractError):
        there.encode_text(["nano has no text encoder"])
    with pytest.raises(ContractError):
        there.ask_many(picture, [])
    assert there.ask(picture, "What is it?", max_tokens=2).tokens.output == 2
    assert there.process.pid == pid


def test_the_stop_rule_is_asked_here_and_nothing_is_begun_after_it(
    isolate: Make, picture: np.ndarray
):
    there = isolate()
    asked = []

    def third() -> bool:
        asked.append(os.getpid())
        return len(asked) == 3

    answer = there.ask(picture, "What is it?", max_tokens=30, draft=False, cancelled=third)
    assert answer.finish_reason == "cancelled"
    assert asked == [os.getpid()] * 3
    assert answer.tokens.output == 3
    past = there.ask(picture, "What is it?", max_tokens=30, deadline_ns=time.monotonic_ns())
    assert past.finish_reason == "deadline"
    stopped = there.ask_many(picture, ["a", "b"], max_tokens=30, cancelled=lambda: True)
    assert [a.finish_reason for a in stopped] == ["cancelled", "cancelled"]


def test_the_shared_memory_is_that_of_one_question(isolate: Make, picture: np.ndarray):
    there = isolate()
    for _ in range(3):
        there.ask(picture, "?", max_tokens=1)
    assert picture.nbytes <= there.process.shared_bytes < picture.nbytes + 4096


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


def told(
    there: Isolated, config: Any, source: ListSource, stopped: Callable[[], bool]
) -> tuple[list[Any], SummaryEvent]:
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


def test_lanes_take_turns_between_any_two_tokens(isolate: Make, model: Vlm, picture: np.ndarray):
    first = isolate(lanes=2)
    second = Isolated(first.process, 1)
    other = picture[::-1, :60].copy()
    alone = {
        "first": model.ask(picture, "What is it?", max_tokens=6, draft=False).token_ids,
        "second": model.ask(other, "Who is there?", max_tokens=5, draft=False).token_ids,
    }
    go = {name: threading.Event() for name in alone}
    told: list[str] = []
    said: dict[str, tuple[int, ...]] = {}

    def after_a_token(own: str, other: str) -> Callable[[], bool]:
        """A stop rule that gives the turn away and waits until it comes back."""

        def rule() -> bool:
            told.append(own)
            if other not in said:
                go[own].clear()
                go[other].set()
                assert go[own].wait(60)
            return False

        return rule

    def ask_second() -> None:
        assert go["second"].wait(60)
        rule = after_a_token("second", "first")
        answer = second.ask(other, "Who is there?", max_tokens=5, draft=False, cancelled=rule)
        said["second"] = answer.token_ids
        go["first"].set()

    thread = threading.Thread(target=ask_second)
    thread.start()
    rule = after_a_token("first", "second")
    answer = first.ask(picture, "What is it?", max_tokens=6, draft=False, cancelled=rule)
    said["first"] = answer.token_ids
    go["second"].set()
    thread.join(60)
    assert said == alone
    assert told[:4] == ["first", "second", "first", "second"]


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


def test_memory_that_a_process_may_not_have_is_an_error_that_says_so(isolate: Make):
    with pytest.raises(BackendError, match=r"MemoryError|bad_alloc|SIGABRT"):
        isolate({"memory_mb": 80})


def test_where_memory_ends_the_kernel_takes_the_model_and_not_the_stream(
    isolate: Make, config: Callable[..., Any]
):
    there = isolate()
    pid = there.process.pid
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(own, 500)
    group = Path("/sys/fs/cgroup/memory/edgevlm-test")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this test needs to make a control group (cgroup v1, as root)")
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "memory.limit_in_bytes").write_text(str(8 << 20))
        (group / "memory.swappiness").write_text("0")
        settings = config(generation={"max_tokens": 4}, policy={"gate": False})
        source = ListSource([40, 200, 90], ManualClock())
        events, summary = told(there, settings, source, lambda: False)
    finally:
        deadline = time.monotonic() + 5
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)
    (fault,) = [e for e in events if isinstance(e, FaultEvent) and e.code == "backend"]
    assert "killed a process because memory was short" in fault.message
    assert (summary.frames.answered, summary.frames.failed) == (2, 1)


RUN = [sys.executable, "-m", "edgevlm", "run", "--isolate", "--ask", "What is it?"]


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def until(true: Callable[[], Any], within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("hung", [False, True])
def test_a_killed_parent_leaves_no_process_and_no_memory(nano: Bundle, hung: bool):
    before = set(Path("/dev/shm").iterdir())
    source = "synthetic:?frames=100000&fps=30&size=64x36"
    command = [*RUN, "--bundle", str(nano.root), "--source", source, "--threads", "1"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline()  # it answers
        (child,) = children_of(parent.pid)
        assert set(Path("/dev/shm").iterdir()) <= before
        if hung:
            os.kill(child, signal.SIGSTOP)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    until(lambda: not alive(child), 10)


def test_the_command_answers_in_two_processes_and_ends_when_told_though_one_hangs(nano: Bundle):
    source = "synthetic:?frames=100000&fps=30&size=64x36"
    command = [*RUN, "--bundle", str(nano.root), "--source", source, "--threads", "1", "--no-gate"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        assert EVENTS.validate_json(parent.stdout.readline()).kind == "answer"
        (child,) = children_of(parent.pid)
        os.kill(child, signal.SIGSTOP)
        begun = time.monotonic()
        parent.send_signal(signal.SIGTERM)
        out, err = parent.communicate(timeout=60)
    finally:
        parent.kill()
        parent.wait()
    assert parent.returncode == 0, err
    assert time.monotonic() - begun < 30  # 5 s for the token, and a busy machine
    summary = json.loads(out.splitlines()[-1])
    assert summary["kind"] == "summary"
    until(lambda: not alive(child), 10)
