"""A box as its file describes it: what runs, what fits, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgevlm.box import BoxConfig, make_settings
from edgevlm.bundle import Bundle
from edgevlm.errors import ConfigError, Overcommitted, SourceError
from edgevlm.event import AnswerEvent, FaultEvent, SummaryEvent
from edgevlm.runtime.stream.admission import Cost, admit
from edgevlm.runtime.stream.box import run_box
from edgevlm.runtime.stream.schedule import Claim


def settings(nano: Bundle, **more: Any) -> BoxConfig:
    """A box of two quick streams; their sources and claims may be other ones."""
    streams = [
        {
            "name": name,
            "ask": "What is it?",
            "source": {"uri": f"synthetic:?seed={seed}&fps=10&frames=3&size=160x120"},
            "policy": {"gate": False},
            "generation": {"max_tokens": 2},
            **more.pop(name, {}),
        }
        for seed, name in enumerate(("a", "b"))
    ]
    raw = {"bundle": str(nano.root), "engine": {"threads": 1}, "streams": streams, **more}
    made = make_settings(raw)
    assert isinstance(made, BoxConfig)
    return made


def test_a_box_runs_with_the_real_model_and_says_what_it_costs(nano: Bundle, tmp_path):
    uri = f"jsonl:{tmp_path}/all.jsonl"
    notes: list[str] = []
    events = list(run_box(settings(nano, sinks=[uri]), lambda: False, notes.append))
    assert {e.stream for e in events if isinstance(e, AnswerEvent)} == {"a", "b"}
    last = events[-1]
    assert isinstance(last, SummaryEvent)
    assert last.frames.answered == 6
    assert "2 of 2 streams fit" in notes[0]
    assert "encode" in notes[0]
    assert (tmp_path / "all.jsonl").read_text().count("\n") == len(events)


def test_streams_share_a_budget_of_visual_tokens_and_the_summary_says_what_they_spent(nano):
    notes: list[str] = []
    box = settings(nano, budget={"visual_tokens_per_s": 400, "burst_s": 0.1}, a={"priority": 1})
    *events, last = run_box(box, lambda: False, notes.append)
    assert "16 visual tokens, 40 of the budget" in notes[0]
    assert last.budget.visual_tokens_per_s == 400
    assert last.budget.burst == 40
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    told = {n: sum(e.tokens.visual for e in answers if e.stream == n) for n in ("a", "b")}
    assert last.budget.spent == told == {"a": 48, "b": 48}
    assert 0 < last.budget.spent_per_s <= 400


def test_rates_that_do_not_fit_are_refused_with_the_figures(nano: Bundle):
    box = settings(nano, a={"min_rate_hz": 900.0}, b={"min_rate_hz": 0.01})
    with pytest.raises(Overcommitted, match=r"1 of 2 streams fit .*a: 900 Hz x .*does not fit"):
        list(run_box(box, lambda: False, lambda _: None))
    box = settings(nano, a={"min_rate_hz": 900.0}, overcommit=True)
    events = list(run_box(box, lambda: False, lambda _: None))
    faults = [(e.stream, e.code) for e in events if isinstance(e, FaultEvent)]
    assert faults == [("a", "overload")]
    assert events[0].kind == "fault"


def test_admission_serves_priorities_first_and_takes_the_gates_off():
    cost = Cost(encode=100, prefill=80, token=4, tokens=25)
    assert cost.answer_s == pytest.approx(0.28)
    claims = {name: Claim(0, 1.0) for name in ("n", "e", "s")} | {"w": Claim(3, 1.0)}
    costs = dict.fromkeys(claims, cost)
    admission = admit(claims, costs, 0.5, [0.0], cores=2)
    assert [(p.name, p.fits) for p in admission.places] == [
        ("w", True), ("n", True), ("e", True), ("s", False),
    ]  # fmt: skip
    assert str(admission).startswith("3 of 4 streams fit (90% of the model can be promised")
    assert "s: 1 Hz x 280 ms (encode 100, prefill 80, 25 tokens of 4.0) = 28%" in str(admission)
    gated = admit(claims, costs, 10.0, [30.0, 30.0], cores=2)  # 0.6 s a second of two cores
    assert gated.room == pytest.approx(0.63)
    assert len(gated.refused) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"streams": []}, "streams"),
        ({"name": "a"}, "two streams are called 'a'"),
        ({"ask": "What?"}, "'ask' is of one stream"),
        ({"engine": {"fallback": "ort-cuda"}}, "fallback"),
        ({"limits": {"memory_mb": 500}}, "limits.memory_mb is of an isolated model"),
        ({"a": {"prioriy": 1}}, "did you mean 'priority'"),
        ({"a": {"min_rate_hz": 0}}, "greater than 0"),
    ],
)
def test_settings_of_a_box_that_do_not_fit_are_refused(nano: Bundle, change, words):
    with pytest.raises(ConfigError, match=words):
        settings(nano, **change)


def test_a_source_that_is_not_there_is_named_with_its_stream(nano: Bundle):
    box = settings(nano, b={"source": {"uri": "/nowhere/clip.mp4"}})
    with pytest.raises(SourceError, match="stream 'b'"):
        list(run_box(box, lambda: False, lambda _: None))


def test_a_sink_that_shows_frames_is_of_one_stream(nano: Bundle, tmp_path):
    box = settings(nano, sinks=[f"video:{tmp_path}/both.mp4"])
    with pytest.raises(ConfigError, match=r"shows the frames of one stream .* those of a, b"):
        list(run_box(box, lambda: False, lambda _: None))
    assert list(tmp_path.iterdir()) == []
