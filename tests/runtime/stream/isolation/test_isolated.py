"""A real model in a process of its own: the same answers, the same errors, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import (
    ContextOverflow,
    ContractError,
    ImageError,
    SchemaError,
)
from edgevlm.event import EVENTS
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.model import Model
from tests.runtime.stream.isolation.conftest import Make, alive, children_of

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
        there.encode_text([])
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


RUN = [sys.executable, "-m", "edgevlm", "run", "--isolate", "--ask", "What is it?"]


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
