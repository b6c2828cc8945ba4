from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.conditions import Condition
from edgevlm.errors import ConfigError
from edgevlm.event import AnswerEvent, StateEvent
from edgevlm.rules import RuleSection
from edgevlm.runtime.stream.rules import Change, Rules

SIZE = (200, 100)


def changes(rule: dict, answers: list, size=SIZE) -> list[tuple[float, str]]:
    """When a rule changes over answers ``(second, answer)``."""
    rules = Rules([RuleSection(name="r", **rule)])
    told = []
    for seq, (now_s, answer) in enumerate(answers):
        told += [(now_s, c.phase) for c in rules.see({"answer": answer}, size, seq, now_s)]
    return told


def person(*seconds_and_flags):
    return [(s, None if flag is None else {"person": flag}) for s, flag in seconds_and_flags]


ON = {"when": ["answer.person = true"]}


def test_a_state_begins_with_its_condition_and_ends_without_it():
    seen = person((0, False), (1, True), (2, True), (3, False), (4, True))
    assert changes(ON, seen) == [(1, "begin"), (3, "end"), (4, "begin")]


def test_a_condition_must_hold_for_its_time_without_a_break():
    seen = person((0, True), (1, True), (1.5, False), (2, True), (3, True), (4, True), (5, True))
    assert changes({**ON, "for_s": 2}, seen) == [(4, "begin")]


def test_an_ending_must_hold_for_its_time_without_a_break():
    seen = person((0, True), (1, False), (2, True), (3, False), (4, False), (5, False))
    assert changes({**ON, "clear_s": 2}, seen) == [(0, "begin"), (5, "end")]


def test_hysteresis_has_an_ending_of_its_own():
    rule = {"when": ["answer.count >= 3"], "until": ["answer.count <= 1"]}
    seen = [(n, {"count": c}) for n, c in enumerate([2, 3, 2, 2, 1, 2, 3])]
    assert changes(rule, seen) == [(1, "begin"), (4, "end"), (6, "begin")]


def test_a_cool_down_holds_the_next_beginning_back():
    seen = person((0, True), (1, False), (2, True), (5, True), (11, True), (12, True))
    assert changes({**ON, "cooldown_s": 10}, seen) == [(0, "begin"), (1, "end"), (11, "begin")]


def test_an_answer_that_does_not_tell_changes_nothing():
    seen = person((0, True), (1, None), (2, True))
    assert changes({**ON, "for_s": 2}, seen) == [(2, "begin")]
    seen = [(0, {"person": True}), (1, None), (2, {"person": None}), (3, {"person": "unknown"})]
    assert changes(ON, seen) == [(0, "begin")]
    both = {"when": ["answer.person = true", "answer.door = open"]}
    seen = [(0, {"person": True, "door": "open"}), (1, {"person": True}), (2, {"person": False})]
    assert changes(both, seen) == [(0, "begin"), (2, "end")]


def test_a_box_must_lie_in_the_zone():
    zone = {"left": 0.5, "top": 0, "right": 1, "bottom": 1, "boxes": "answer.boxes"}
    rule = {**ON, "zone": zone}
    left, right = [0, 0, 80, 100], [100, 0, 180, 100]
    seen = [
        (0, {"person": True, "boxes": []}),
        (1, {"person": True, "boxes": [left]}),
        (2, {"person": True, "boxes": [left, right]}),
        (3, {"person": True, "boxes": "none"}),
        (4, {"person": True, "boxes": [left]}),
    ]
    assert changes(rule, seen) == [(2, "begin"), (4, "end")]


def test_a_change_names_its_answers_its_length_and_the_same_id_at_both_ends():
    rules = Rules([RuleSection(name="door", when=("answer.open = true",), for_s=1.0)])
    told = []
    for seq, (now_s, is_open) in enumerate(
        [(0, True), (0.5, True), (1, True), (5, True), (9, False)]
    ):
        told += rules.see({"answer": {"open": is_open}}, SIZE, seq, now_s)
    begin, end = told
    assert begin == Change(
        rule="door", phase="begin", state_id=begin.state_id, held_s=0.0, evidence=(0, 1, 2)
    )
    assert end == Change(
        rule="door", phase="end", state_id=begin.state_id, held_s=8.0, evidence=(4,)
    )


def test_evidence_is_bounded_and_keeps_the_first():
    rules = Rules([RuleSection(name="r", when=("answer.on = true",), for_s=100)])
    told = [c for n in range(101) for c in rules.see({"answer": {"on": True}}, SIZE, n, n)]
    assert told[0].evidence == (0, *range(86, 101))


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.sampled_from([True, False, None])), max_size=60),
    st.floats(0, 4), st.floats(0, 4), st.floats(0, 10),
)  # fmt: skip
def test_beginnings_and_ends_take_turns_and_keep_their_times(steps, for_s, clear_s, cooldown_s):
    rule = RuleSection(
        name="r", when=("answer.on = true",), for_s=for_s, clear_s=clear_s, cooldown_s=cooldown_s
    )
    rules, now, told, held = Rules([rule]), 0.0, [], {True: 0.0, False: 0.0}
    last = None
    for seq, (gap, on) in enumerate(steps):
        now += gap
        if on is not None and on != last:
            last, held[on] = on, now
        for change in rules.see({"answer": {"on": on}}, SIZE, seq, now):
            told.append((change.phase, now))
            need, since = (for_s, held[True]) if change.phase == "begin" else (clear_s, held[False])
            assert now - since >= need
    phases = [phase for phase, _ in told]
    assert phases == (["begin", "end"] * len(phases))[: len(phases)]
    for (_, ended), (_, begun) in zip(told[1::2], told[2::2], strict=False):
        assert begun - ended >= cooldown_s


@pytest.mark.parametrize(
    ("condition", "body", "holds"),
    [
        ("a = 1", {"a": 1}, True),
        ("a.b != x", {"a": {"b": "y"}}, True),
        ("a < 2", {"a": 2}, False),
        ("a > 2", {"a": "3"}, None),
        ("a = x", {"a": 3}, None),
        ("a = true", {"a": True}, True),
        ("a = null", {"a": None}, True),
        ("a != null", {"a": None}, False),
        ("a = 1", {"a": None}, None),
        ("a = 1", {}, None),
        ("a = null", {}, None),
        ("a = 1", {"a": [1]}, None),
        ("a ~ CAT", {"a": "a cat"}, True),
        ("a ~ cat", {"a": None}, None),
    ],
)
def test_conditions(condition, body, holds):
    assert Condition.parse(condition).holds(body) is holds


def test_a_state_is_told_behind_its_answer_and_also_while_nobody_answers(play):
    events, summary = play(
        [50] * 31,
        policy={"reuse_every_s": 100},
        rules=[{"name": "calm", "when": ["finish_reason = stop"], "for_s": 2.0}],
    )
    answer, state = events
    assert isinstance(answer, AnswerEvent)
    assert isinstance(state, StateEvent)
    assert (state.seq, state.rule, state.phase, state.evidence) == (1, "calm", "begin", (0,))
    assert (state.frame, state.media_s, state.reused, state.of) == (20, 2.0, True, 0)
    assert state.text == answer.text
    assert (summary.seq, summary.frames.reused) == (2, 30)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"name": "a", "when": []}], "rules.0.when"),
        ([{"name": "a", "when": ["text ~ fire"]}], "does not search texts"),
        ([{"name": "a", "when": ["text"]}], "FIELD OP VALUE"),
        ([{"name": "a", "when": ["a = 1"]}, {"name": "a", "when": ["a = 2"]}], "called 'a'"),
        (
            [{"name": "a", "when": ["a = 1"], "zone": dict(left=1, top=0, right=0, bottom=1)}],
            "left < right",
        ),
        ([{"name": "a", "when": ["a = 1"], "for": 3}], "unknown key 'rules.0.for'"),
        ([{"name": "a", "when": ["a = 1"], "for_s": -1}], "for_s"),
    ],
)
def test_rules_that_cannot_be(config, rules, message):
    with pytest.raises(ConfigError, match=message):
        config(rules=rules)
