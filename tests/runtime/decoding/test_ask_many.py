"""Several questions about one picture: each as if it had been asked alone, for less."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.errors import ContextOverflow, ContractError, SchemaError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.asking import Choice, ChoiceOfOne, asking_of
from edgevlm.runtime.model.draft import Drafts
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
    tokens = replace(answer.tokens, drafted=0, accepted=0)  # nothing is drafted side by side
    return (
        answer.text, answer.token_ids, answer.finish_reason, answer.confidence, answer.answer,
        answer.field_confidence, tokens,
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


@pytest.mark.parametrize("count", [2, 4, 5, 7])
def test_any_number_of_questions_goes_side_by_side(model: Vlm, photograph: Photograph, count: int):
    picture = photograph("coffee.png")
    long = "Say it in a few words, please. " * 12 + "What is it?"  # over one call of a branch
    asked = [*QUESTIONS, long, "Why?", ("A cat or not?", CAT), "Where is this?"][:count]
    apart = [alone(model, picture, question) for question in asked]
    for together in (True, False):
        found = model.ask_many(picture, asked, max_tokens=8, together=together)
        assert [exactly(a) for a in found] == [exactly(a) for a in apart]


def test_sampled_answers_are_drawn_as_each_alone(model: Vlm, photograph: Photograph):
    picture, options = photograph("coffee.png"), {"temperature": 1.0, "top_p": 0.9, "seed": 3}
    asked = ["What is this?", "Why?"]
    apart = [model.ask(picture, question, max_tokens=6, **options) for question in asked]
    together = model.ask_many(picture, asked, max_tokens=6, **options)
    assert [exactly(a) for a in together] == [exactly(a) for a in apart]


def test_each_question_has_drafts_that_learn_from_frame_to_frame(
    model: Vlm, photograph: Photograph
):
    picture, asked = photograph("coffee.png"), ["What is this?", "What is this for?"]
    apart = [model.ask(picture, question, max_tokens=8, draft=False) for question in asked]
    drafts = [Drafts(), Drafts()]
    for _ in range(2):
        found = model.ask_many(picture, asked, max_tokens=8, draft=drafts, together=False)
        assert [a.token_ids for a in found] == [a.token_ids for a in apart]
    assert all(a.tokens.accepted > 0 for a in found)
    assert [len(taught.answers) for taught in drafts] == [1, 1]
    with pytest.raises(ContractError, match="2 questions and 1 drafts"):
        model.ask_many(picture, asked, draft=drafts[:1])


def test_what_a_stream_may_choose_is_what_the_model_takes():
    """``Choice`` and ``ChoiceOfOne`` are the keywords of ``Vlm``, in one place for all others."""
    taken = {
        name: {
            key
            for key, parameter in inspect.signature(getattr(Vlm, name)).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        for name in ("ask", "ask_many")
    }
    assert taken["ask"] == set(ChoiceOfOne.__annotations__) | {"messages", "system"}
    assert taken["ask_many"] == set(Choice.__annotations__) | {"system", "draft", "together"}
    meant = inspect.signature(asking_of).parameters
    assert set(meant) == set(ChoiceOfOne.__annotations__)
    given = inspect.signature(Vlm.ask).parameters
    assert {k: p.default for k, p in meant.items()} == {k: given[k].default for k in meant}


class Loads:
    """A backend that notes which graphs it loads."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.loaded: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        self.loaded.append(graph.name)
        return self._inner.load(graph, burst=burst)


def test_the_second_graph_is_loaded_when_it_is_needed(tiny: Bundle):
    backend = Loads(open_backend("ort-cpu", threads=1, spin=False))
    with Vlm(tiny, backend) as model:
        model.ask(None, "Hi", max_tokens=2)
        model.ask_many(None, ["Hi"], max_tokens=2)
        model.ask_many(None, ["Hi", "Ho"], max_tokens=2, together=False)
        assert backend.loaded == ["decoder.onnx"]
        for _ in range(2):
            model.ask_many(None, ["Hi", "Ho"], max_tokens=2)
        assert backend.loaded == ["decoder.onnx", "decoder.branches.onnx"]


def test_questions_that_fill_the_cache_are_asked_one_after_another(tiny: Bundle):
    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model:
        room = model.bundle.manifest.kv.capacity - model.ask(None, "", max_tokens=1).tokens.prompt
        asked = ["x" * (room - 3), "y" * (room - 1), "z"]
        apart = [alone(model, None, question) for question in asked]
        assert [a.finish_reason for a in apart][:2] == ["length", "length"]
        together = model.ask_many(None, asked, max_tokens=8)
        assert [exactly(a) for a in together] == [exactly(a) for a in apart]


def test_a_bundle_without_the_second_graph_answers_one_after_another(tiny: Bundle):
    graphs = tiny.manifest.graphs
    decoder = graphs["decoder"].model_copy(update={"branches": None})
    older = tiny.manifest.model_copy(update={"graphs": {**graphs, "decoder": decoder}})
    assert b"branches" in tiny.manifest.canonical()
    assert b'"branches"' not in older.canonical()  # its id is what it was
    questions = ["Hi", "Ho"]
    with (
        Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model,
        Vlm(Bundle(tiny.root, older), open_backend("ort-cpu", threads=1, spin=False)) as old,
    ):
        expected = model.ask_many(None, questions, max_tokens=8)
        found = old.ask_many(None, questions, max_tokens=8)
    assert [exactly(a) for a in found] == [exactly(a) for a in expected]


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
