"""Several questions about one picture: each as if it had been asked alone, for less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.errors import ContextOverflow, ContractError, SchemaError
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm

CAT = {
    "type": "object",
    "properties": {"cat": {"type": "boolean"}},
    "required": ["cat"],
}
QUESTIONS: list[Any] = ["What is this?", ("Is there a cat?", CAT), "What is this for?"]
Photograph = Callable[[str], Path]


def exactly(answer: Answer) -> tuple[object, ...]:
    """All of an answer that must not depend on what it was asked together with."""
    return (
        answer.text, answer.token_ids, answer.finish_reason, answer.confidence, answer.answer,
        answer.field_confidence, answer.tokens,
    )  # fmt: skip


def alone(model: Vlm, image: Any, question: Any) -> Answer:
    text, schema = (question, None) if isinstance(question, str) else question
    return model.ask(image, text, schema=schema, max_tokens=8)


def test_questions_together_are_answered_as_each_alone(model: Vlm, photograph: Photograph):
    pictures = [photograph("coffee.png"), photograph("chelsea.png")]
    for image in (pictures[0], pictures):
        apart = [alone(model, image, question) for question in QUESTIONS]
        together = model.ask_many(image, QUESTIONS, max_tokens=8)
        assert [exactly(a) for a in together] == [exactly(a) for a in apart]
        assert together[1].answer in ({"cat": True}, {"cat": False})
        assert together[0].timings_ms.encode > 0
        assert [a.timings_ms.encode for a in together[1:]] == [0, 0]
    assert exactly(model.ask_many(pictures[0], QUESTIONS[:1], max_tokens=8)[0]) == exactly(
        alone(model, pictures[0], QUESTIONS[0])
    )


def test_questions_without_a_picture_share_what_they_begin_with(tiny: Bundle):
    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model:
        questions: list[Any] = ["x" * 300 + end for end in ("", "!", "!!", "?")]
        apart = [alone(model, None, question) for question in questions]
        together = model.ask_many(None, questions, max_tokens=8)
        assert [exactly(a) for a in together] == [exactly(a) for a in apart]
        same = model.ask_many(None, [questions[0]] * 3, max_tokens=8)
        assert [exactly(a) for a in same] == [exactly(apart[0])] * 3


def test_the_picture_goes_through_the_decoder_once(nano: Bundle, photograph: Photograph):
    calls: list[int] = []
    backend = ScriptedBackend(nano.manifest, [28120, 2], lambda: calls.append(1))
    with Vlm(nano, backend) as model:
        answers = model.ask_many(photograph("coffee.png"), ["A?", "B?", "C?"], draft=False)
    assert [a.token_ids for a in answers] == [(28120, 2)] * 3
    # The constant text, the shared rows, and for each question its own rows and one step.
    assert len(calls) == 2 + 3 * 2


@pytest.mark.parametrize(
    ("questions", "error", "message"),
    [
        ([], ContractError, "at least one question"),
        ([5], ContractError, "a question is a text or"),
        ([("a", {}, 3)], ContractError, "a question is a text or"),
        (["a", ("b", {"type": "strng"})], SchemaError, "strng"),
        (["a", "word " * 3000], ContextOverflow, "--max-context"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_model_stays_free(
    model: Vlm, questions: list[Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        model.ask_many(None, questions)
    assert model.ask(None, "Hi", max_tokens=1).token_ids
