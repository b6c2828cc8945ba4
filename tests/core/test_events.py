"""The wire form of events: strict both ways."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.event import EVENTS, AnswerEvent, FaultEvent, boot_id, rfc3339

STAGES = ("wait", "gate", "preprocess", "encode", "prefill", "decode", "total")
COUNTS = ("visual", "prompt", "output", "drafted", "accepted", "forced")
ANSWER: dict[str, Any] = {
    "v": 1, "stream": "main", "seq": 0, "kind": "answer", "frame": 3, "frame_id": "cam",
    "media_s": 0.12,
    "captured_at": "2026-01-31T12:00:00.000Z", "clock": "arrival", "monotonic_ns": 5,
    "boot_id": None, "age_ms": 12.5, "text": "a cat \u2764", "answer": None,
    "question": "What is there?",
    "finish_reason": "stop", "confidence": 0.5,
    "field_confidence": {"/door": 0.5}, "calibrated": True,
    "boxes_xyxy": [[0, 1, 2.5, 3]], "reused": False,
    "of": None, "reused_frames": 0, "dropped": {"superseded": 2},
    "timings_ms": dict.fromkeys(STAGES, 1.0), "tokens": dict.fromkeys(COUNTS, 1),
    "window": [{"frame": 3, "age_s": 0.0, "stood_s": 1.5, "tokens": 16}],
    "backend": "ort-cpu", "degraded": [],
}  # fmt: skip


def test_an_event_survives_its_json():
    event = EVENTS.validate_python(ANSWER)
    assert isinstance(event, AnswerEvent)
    assert EVENTS.validate_json(event.model_dump_json()) == event
    assert json.loads(event.model_dump_json()) == ANSWER


def test_the_kind_decides_which_event_it_is():
    fault = {"stream": "s", "seq": 1, "kind": "fault", "code": "stall", "message": "no frame"}
    assert isinstance(EVENTS.validate_python(fault), FaultEvent)
    with pytest.raises(ValidationError):
        EVENTS.validate_python({**fault, "kind": "rumour"})


@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1}, {"v": 2}, {"clock": "sundial"}, {"finish_reason": "tired"},
        {"confidence": 1.5}, {"dropped": {"lost": 1}}, {"age_ms": -1}, {"surprise": 1},
        {"boxes_xyxy": [[1, 2, 3]]}, {"timings_ms": {}}, {"text": None},
    ],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_an_event_of_another_shape_is_refused(change: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(change))):
        EVENTS.validate_python(ANSWER | change)


def test_a_moment_is_written_in_utc_with_milliseconds_and_rounded_down():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_769_860_800_000_000_000) == "2026-01-31T12:00:00.000Z"
    assert rfc3339(1_769_860_800_999_999_999) == "2026-01-31T12:00:00.999Z"


@given(st.integers(0, 4_102_444_800_000_000_000))
def test_a_written_moment_parses_back_to_its_millisecond(unix_ns: int):
    parsed = datetime.strptime(rfc3339(unix_ns), "%Y-%m-%dT%H:%M:%S.%fZ")
    parsed = parsed.replace(tzinfo=timezone.utc)
    since = parsed - datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert since == timedelta(milliseconds=unix_ns // 1_000_000)


def test_the_boot_id_stays_the_same_and_is_the_kernels():
    assert boot_id() == boot_id()
    assert boot_id() is None or len(str(boot_id())) == 36
