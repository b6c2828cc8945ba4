"""Drafts and schemas in a stream: what its events say, and that drafts change no text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edgevlm
from edgevlm.bundle import Bundle
from edgevlm.cli.run import _resolve
from edgevlm.config import RunConfig, load_config, make_config
from edgevlm.errors import SchemaError
from edgevlm.event import EVENTS, AnswerEvent

CLIP = Path(__file__).parents[3] / "configs" / "assets" / "sample.mp4"
SCHEMA = {
    "type": "object",
    "properties": {"animal": {"type": "boolean"}, "place": {"enum": ["in", "out", "unknown"]}},
    "required": ["animal", "place"],
}


def config(bundle: Bundle, frames: int, **generation: Any) -> RunConfig:
    return make_config(
        {
            "bundle": str(bundle.root),
            "ask": "What is the main thing in this picture?",
            "source": {"uri": str(CLIP)},
            "policy": {"gate": False},
            "generation": {"max_tokens": 24, **generation},
            "limits": {"frames": frames},
            "engine": {"threads": 2, "spin": False},
        }
    )


def answers(settings: RunConfig) -> list[AnswerEvent]:
    return [event for event in edgevlm.run(settings) if isinstance(event, AnswerEvent)]


def test_drafts_change_no_text_of_a_stream_and_are_counted(nano: Bundle):
    plain = answers(config(nano, 5, draft=False))
    drafted = answers(config(nano, 5))
    assert [e.text for e in drafted] == [e.text for e in plain]
    assert [e.confidence for e in drafted] == [e.confidence for e in plain]
    assert {e.tokens.drafted for e in plain} == {0}
    assert sum(e.tokens.accepted for e in drafted[1:]) >= 4
    assert all(e.tokens.accepted <= e.tokens.drafted for e in drafted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_two_hundred_frames_say_the_same_with_drafts_and_without(
    request: pytest.FixtureRequest, precision: str
):
    bundle = request.getfixturevalue("nano" if precision == "int4" else "nano_fp32")
    plain = answers(config(bundle, 200, draft=False))
    drafted = answers(config(bundle, 200))
    assert len(plain) == len(drafted) == 200
    assert [(e.text, e.confidence) for e in drafted] == [(e.text, e.confidence) for e in plain]
    assert sum(e.tokens.accepted for e in drafted) > 200
    by_schema = answers(config(bundle, 200, schema=SCHEMA))
    assert [e.answer for e in by_schema] == [json.loads(e.text) for e in by_schema]
    for event in by_schema:
        jsonschema.validate(event.answer, SCHEMA)
    free = answers(config(bundle, 200, schema=SCHEMA, draft=False))
    assert [e.text for e in by_schema] == [e.text for e in free]


def test_events_carry_answers_by_schema(nano: Bundle, tmp_path: Path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    found = answers(config(nano, 2, schema=str(file)))
    for event in found:
        jsonschema.validate(event.answer, SCHEMA)
        assert json.loads(event.text) == event.answer
        assert set(event.field_confidence) == {"/animal", "/place"}
        assert event.tokens.forced > event.tokens.output // 2
        assert EVENTS.validate_json(event.model_dump_json()) == event
    assert [e.answer for e in answers(config(nano, 2, schema=SCHEMA))] == [e.answer for e in found]


def test_a_schema_that_cannot_be_kept_ends_the_run_before_an_answer(nano: Bundle):
    with pytest.raises(SchemaError, match="strng"):
        answers(config(nano, 1, schema={"type": "strng"}))


def test_a_schema_may_be_a_table_of_the_config_and_a_flag_replaces_it(tmp_path: Path):
    path = tmp_path / "watch.toml"
    path.write_text(
        'bundle = "b"\nask = "q"\n[source]\nuri = "x.mp4"\n[generation]\ndraft = false\n'
        '[generation.schema]\ntype = "object"\n[generation.schema.properties.door]\n'
        'enum = ["open", "shut", "unknown"]\n'
    )
    generation = load_config(path).generation
    assert generation.schema_ == {
        "type": "object", "properties": {"door": {"enum": ["open", "shut", "unknown"]}},
    }  # fmt: skip
    assert generation.draft is False
    flags = {"generation.schema": "other.json", "generation.draft": None}
    assert _resolve(path, [], flags).generation.schema_ == "other.json"
    assert _resolve(path, [], {}).generation == generation
