from __future__ import annotations

import json

import pytest

import edgevlm
from edgevlm.event import AnswerEvent, SummaryEvent
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def events(nano):
    settings = [f'bundle="{nano.root}"', f"source.uri={ROOT}/configs/assets/sample.mp4"]
    return list(edgevlm.run(ROOT / "configs" / "demo.toml", settings))


@pytest.fixture(scope="module")
def timeline():
    path = ROOT / "configs" / "assets" / "sample.timeline.json"
    return json.loads(path.read_text("utf-8"))["segments"]


def test_the_demo_gives_answers_some_of_them_reused_and_a_summary(events):
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert len(answers) >= 10
    assert any(e.reused for e in answers)
    assert any(not e.reused for e in answers)
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    frames = summary.frames
    assert frames.read == 384
    assert frames.read == (
        frames.answered + frames.reused + sum(frames.dropped.values()) + frames.failed
    )


def test_every_cut_of_the_clip_gets_a_new_answer_at_the_next_sampled_frame(events, timeline):
    answered = [e.media_s for e in events if isinstance(e, AnswerEvent) and not e.reused]
    cuts = [s["start_s"] for s in timeline if s["kind"] == "cut"]
    assert len(cuts) >= 4
    for cut in cuts:
        assert any(cut <= at <= cut + 0.25 for at in answered), (cut, answered)


def test_still_stretches_of_the_clip_are_never_answered_twice(events, timeline):
    stills = [s for s in timeline if s["kind"] == "still"]
    assert len(stills) >= 5
    for still in stills:
        inside = [
            e.media_s
            for e in events
            if isinstance(e, AnswerEvent)
            and not e.reused
            and still["start_s"] + 0.3 < e.media_s < still["end_s"] - 0.05
        ]
        assert inside == [], still
