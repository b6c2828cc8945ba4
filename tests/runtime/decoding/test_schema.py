"""Answers by JSON Schema: always valid, forced tokens for nothing, and typed refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from edgevlm.bundle import Bundle
from edgevlm.errors import ConfigError, SchemaError
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.field_scores import Choice, field_scores
from edgevlm.runtime.model.load import load, open_backend
from edgevlm.runtime.model.schema import closed
from edgevlm.runtime.model.vlm import Vlm

YES_NO = {"type": "boolean"}


def record(**fields: Any) -> dict[str, Any]:
    """An object that has exactly these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


SCENE = record(
    place={"enum": ["indoors", "outdoors", "unknown"]},
    people=YES_NO,
    colour={"enum": ["red", "dark blue", "dark green"]},
    count={"type": "integer", "minimum": 0, "maximum": 20},
)


@pytest.fixture(scope="module")
def small(tiny: Bundle) -> Iterator[Vlm]:
    """Random weights, which say anything that they may."""
    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model:
        yield model


NAMES = st.text('abz _é"\\/~', min_size=1, max_size=5)
VALUES = st.recursive(
    st.one_of(
        st.just(YES_NO),
        st.just({"type": "null"}),
        st.lists(NAMES, min_size=1, max_size=4, unique=True).map(lambda v: {"enum": v}),
        st.integers(-99, 99).map(lambda v: {"const": v}),
        st.tuples(st.integers(-30, 30), st.integers(0, 60)).map(
            lambda v: {"type": "integer", "minimum": v[0], "maximum": v[0] + v[1]}
        ),
        st.integers(0, 4).map(lambda v: {"type": "string", "maxLength": v}),
        st.just({"type": "number", "minimum": 0, "maximum": 1}),
    ),
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3).map(lambda v: record(**v)),
        inner.map(lambda v: {"type": "array", "items": v, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda v: {"anyOf": v}),
    ),
    max_leaves=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(NAMES, VALUES, max_size=4).map(lambda v: record(**v)),
    st.sampled_from([0.0, 1.5]),
    st.integers(1, 300),
)
def test_every_answer_parses_and_follows_its_schema(
    small: Vlm, schema: dict[str, Any], temperature: float, budget: int
):
    answer = small.ask(
        None, "Hm?", schema=schema, max_tokens=budget, temperature=temperature, seed=1
    )
    assert answer.tokens.output == len(answer.token_ids) <= budget
    if answer.finish_reason == "length":
        assert answer.answer is None
        assert answer.field_confidence == {}
        return
    assert answer.finish_reason == "stop"
    assert answer.token_ids[-1] in small.bundle.manifest.language.prompt.stop_token_ids
    assert json.loads(answer.text) == answer.answer
    jsonschema.validate(answer.answer, schema)
    assert all(0 <= score <= 1 for score in answer.field_confidence.values())
    assert answer.confidence is not None


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4).map(lambda v: record(**v)))
def test_drafts_change_no_answer_by_schema(small: Vlm, schema: dict[str, Any]):
    plain = small.ask(None, "Hm?", schema=schema, max_tokens=120, draft=False)
    drafts = Drafts()
    for _ in range(3):
        found = small.ask(None, "Hm?", schema=schema, max_tokens=120, draft=drafts)
        assert found.token_ids == plain.token_ids
        assert found.confidence == plain.confidence
        assert found.field_confidence == plain.field_confidence
        assert found.tokens.forced == plain.tokens.forced


def test_forced_tokens_cost_no_pass(tiny: Bundle):
    calls: list[int] = []
    schema = record(one=YES_NO, another=YES_NO, third={"enum": ["aa", "bb"]}, last=YES_NO)
    with Vlm(tiny, ScriptedBackend(tiny.manifest, [65], lambda: calls.append(1))) as model:
        answer = model.ask(None, "Hm?", schema=schema, draft=False)
    jsonschema.validate(answer.answer, schema)
    assert len(calls) == 4, "one prefill that decides the first field, and a pass a further field"
    assert answer.tokens.forced == answer.tokens.output - 4


def test_a_schema_without_any_choice_costs_the_prefill_alone(tiny: Bundle):
    calls: list[int] = []
    with Vlm(tiny, ScriptedBackend(tiny.manifest, [65], lambda: calls.append(1))) as model:
        answer = model.ask(None, "Hm?", schema=record(kind={"const": "door"}))
    assert (answer.text, answer.finish_reason) == ('{"kind":"door"}', "stop")
    assert answer.tokens.forced == answer.tokens.output
    assert answer.confidence == 1.0
    assert len(calls) == 1


@pytest.mark.parametrize("budget", range(1, 24))
def test_a_budget_that_is_too_small_gives_no_answer(small: Vlm, budget: int):
    schema = record(here=YES_NO, there=YES_NO)
    whole = small.ask(None, "Hm?", schema=schema, max_tokens=200)
    answer = small.ask(None, "Hm?", schema=schema, max_tokens=budget)
    assert answer.token_ids == whole.token_ids[:budget]
    assert (answer.finish_reason, answer.answer) == ("length", None)


def test_real_weights_fill_a_schema_the_same_in_every_way_of_asking(model: Vlm, tmp_path: Path):
    class Scene(BaseModel):
        place: Literal["indoors", "outdoors", "unknown"]
        people: bool

    file = tmp_path / "scene.json"
    file.write_text(json.dumps(Scene.model_json_schema()))
    picture = np.full((64, 64, 3), 90, np.uint8)
    forms: list[Any] = [Scene, Scene.model_json_schema(), file, str(file)]
    answers = [model.ask(picture, "As JSON.", schema=form) for form in forms]
    assert {(a.token_ids, a.confidence) for a in answers} == {
        (answers[0].token_ids, answers[0].confidence)
    }
    Scene.model_validate(answers[0].answer)
    assert set(answers[0].field_confidence) == {"/place", "/people"}
    assert " " not in answers[0].text
    pieces = list(model.stream(picture, "As JSON.", schema=Scene))
    assert "".join(pieces) == answers[0].text


def test_objects_are_closed_where_nothing_says_otherwise():
    inner = {"type": "object", "properties": {"a": YES_NO}}
    given = {
        "type": "object",
        "properties": {"in": inner, "list": {"type": "array", "items": inner}},
        "$defs": {"d": inner, "open": inner | {"additionalProperties": True}},
        "anyOf": [inner],
    }
    shut = inner | {"additionalProperties": False}
    assert closed(given) == {
        "type": "object",
        "properties": {"in": shut, "list": {"type": "array", "items": shut}},
        "$defs": {"d": shut, "open": inner | {"additionalProperties": True}},
        "anyOf": [shut],
    }
    assert closed({"allOf": [inner], "properties": {}}) == {"allOf": [inner], "properties": {}}
    assert closed({"properties": {"properties": YES_NO}})["properties"] == {"properties": YES_NO}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record(a={"not": YES_NO}), "not"),
        (record(a={"type": "array", "uniqueItems": True}), "uniqueItems"),
        (record(a={"type": "strng"}), "strng"),
        (record(a={"type": "string", "pattern": "(?=a)b"}), "look-ahead"),
        (record(a={"$ref": "https://example.com/x"}), "example.com"),
        (record(a={"enum": []}), "property 'a' is unsatisfiable"),
        ({"type": "object", "if": {}}, "if"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum"),
        ({"enum": ["yes", "no"]}, '"type": "object"'),
        ({}, '"type": "object"'),
        ({"type": "object", "properties": {"a": {1, 2}}}, "no JSON"),
        (5, "got int"),
        (["a"], "got list"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_by_its_keyword(
    small: Vlm, schema: Any, message: str
):
    with pytest.raises(SchemaError, match=message) as caught:
        small.ask(None, "Hm?", schema=schema)
    assert "\n" not in str(caught.value)
    assert small.ask(None, "Hm?", max_tokens=1).token_ids


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("{", "no JSON"), ("[]", "an object")]
)
def test_a_file_without_a_schema_is_refused(
    small: Vlm, tmp_path: Path, content: str | None, message: str
):
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SchemaError, match=message):
        small.ask(None, "Hm?", schema=path)


def test_without_llguidance_the_extra_is_named(tiny: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with load(tiny.root, threads=1, spin=False) as fresh:
        assert fresh.ask(None, "Hm?", max_tokens=1).token_ids
        with pytest.raises(ConfigError, match=r"pip install 'edgevlm\[grammar\]'"):
            fresh.ask(None, "Hm?", schema=SCENE)


def test_a_value_is_as_sure_as_all_the_ways_to_go_on_with_it():
    text = '{"a":"indoors","b":[true,12]}'
    choices = [
        # after {"a":" three tokens begin the word, and one another
        Choice(6, 8, ((b"in", 0.5), (b"i", 0.2), (b"indoors", 0.1), (b"out", 0.2))),
        Choice(20, 24, ((b"true", 0.25), (b"false", 0.75))),
        Choice(25, 26, ((b"1", 0.5), (b"2", 0.5))),
        Choice(26, 27, ((b"2", 0.5), (b"]", 0.5))),
        Choice(27, 28, ((b"]", 0.4), (b"0", 0.6))),
    ]
    assert text.encode()[6:13] == b"indoors"
    found = field_scores(text, choices)
    assert found == pytest.approx({"/a": 0.8, "/b/0": 0.25, "/b/1": 0.5 * 0.5 * 0.4})


def test_names_in_pointers_are_escaped():
    assert field_scores('{"a/b":{"~":1},"":[]}', []) == {"/a~1b/~0": 1.0}
