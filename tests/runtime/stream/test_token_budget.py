"""Visual tokens for all streams together: never more than declared, and something for everybody."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.runtime.stream.schedule import EVERYBODY, NEVER_NS, Claim, Schedule
from edgevlm.runtime.stream.token_budget import TokenBudget

MS = 1_000_000
QUANTUM_MS = 20


@dataclass
class Load:
    """A stream whose answers take ``steps`` quanta and ``tokens``, asked for after ``idle_ms``."""

    claim: Claim = field(default_factory=Claim)
    steps: int = 2
    tokens: int = 16
    idle_ms: int = 0
    within_ms: int | None = None
    fails: bool = False  # nobody learns what its answers took
    waits_ns: list[int] = field(default_factory=list)
    answers: int = 0


Spends = list[tuple[int, int]]  # when an answer began, and what it took


def simulate(loads: dict[str, Load], budget: TokenBudget, seconds: float) -> Spends:
    """One model that works in quanta which nothing interrupts, and streams that never tire."""
    costs = {name: load.steps * QUANTUM_MS / 1e3 for name, load in loads.items()}
    schedule = Schedule({name: load.claim for name, load in loads.items()}, costs, budget)
    now, holder, spends = 0, None, []
    wanting = dict.fromkeys(loads, 0)
    asked: dict[str, int] = {}
    left = {name: load.steps for name, load in loads.items()}
    while now < seconds * 1e9:
        for name, at in list(wanting.items()):
            if at <= now:
                within = loads[name].within_ms
                schedule.ask(name, at, NEVER_NS if within is None else at + within * MS)
                asked[name] = wanting.pop(name)
        if holder is not None and schedule.preempted(holder, now):
            schedule.lend(holder, now)
            holder = None
        if holder is None and (holder := schedule.next(now)) is not None:
            if not budget.holds(holder):
                spends.append((now, loads[holder].tokens))
                loads[holder].waits_ns.append(now - asked.pop(holder))
            schedule.begin(holder, now)
        now += QUANTUM_MS * MS
        if holder is None:
            continue
        load = loads[holder]
        left[holder] -= 1
        if not left[holder]:
            schedule.end(holder, now, None if load.fails else load.tokens)
            load.answers += 1
            left[holder] = load.steps
            wanting[holder] = now + load.idle_ms * MS
            holder = None
    for name, at in asked.items():
        loads[name].waits_ns.append(now - at)
    return spends


def of(loads: dict[str, Load], rate: float, burst_s: float) -> TokenBudget:
    return TokenBudget(rate, burst_s, {name: load.tokens for name, load in loads.items()})


MIXES = st.lists(
    st.builds(
        Load,
        claim=st.builds(
            Claim, priority=st.integers(-5, 5), min_rate_hz=st.sampled_from([0.0, 0.2, 1.0, 5.0])
        ),
        steps=st.integers(1, 12),
        tokens=st.integers(0, 300),
        idle_ms=st.sampled_from([0, 0, 40, 400]),
        within_ms=st.sampled_from([None, 50, 1000]),
        fails=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(lambda some: dict(zip("abcde", some, strict=False)))


@settings(max_examples=40, deadline=None)
@given(mix=MIXES, rate=st.sampled_from([20.0, 150.0, 900.0]), burst_s=st.sampled_from([0.0, 1.0]))
def test_the_budget_is_never_exceeded_and_nobody_starves(mix, rate, burst_s):
    budget = of(mix, rate, burst_s)
    spends = simulate(mix, budget, seconds=30)
    filled, at = budget.burst, 0  # a bucket kept by hand: it never runs below empty
    for now, tokens in spends:
        filled = min(budget.burst, filled + rate * (now - at) / 1e9) - tokens
        at = now
        assert filled >= -1e-6
    assert sum(budget.spent.values()) <= rate * 30 + budget.burst

    costs_s = {n: max(load.steps * QUANTUM_MS / 1e3, load.tokens / rate) for n, load in mix.items()}
    period_s = sum(costs_s.values()) / EVERYBODY
    slack_s = budget.burst / rate + 2 * QUANTUM_MS / 1e3
    for name, load in mix.items():
        assert max(load.waits_ns) / 1e9 <= 2 * period_s + slack_s, name


def test_what_a_still_scene_does_not_take_goes_to_those_that_change():
    alone = {"a": Load()}
    simulate(alone, of(alone, 80.0, 0.0), seconds=10)
    both = {"a": Load(), "still": Load(idle_ms=100_000)}
    simulate(both, of(both, 80.0, 0.0), seconds=10)
    assert both["still"].answers == 1
    assert both["a"].answers == alone["a"].answers - 1 >= 40


def test_priority_takes_what_everybodys_tenth_and_promises_leave():
    loads = {
        "door": Load(Claim(priority=2)),
        "yard": Load(Claim(min_rate_hz=1.0)),
        "street": Load(),
    }
    simulate(loads, of(loads, 80.0, 0.0), seconds=60)  # five answers a second for all
    per_s = {name: load.answers / 60 for name, load in loads.items()}
    assert per_s["yard"] >= 1.0
    assert per_s["street"] >= 0.1
    assert per_s["door"] > 3.0


def test_an_answer_that_took_more_than_any_before_is_paid_back_and_remembered():
    budget = TokenBudget(100.0, 0.5, {"a": 20})
    assert budget.affords("a", 0)
    budget.begin("a", 0)
    budget.end("a", 90, 0)  # 50 were there
    assert not budget.affords("a", 800 * MS)
    assert budget.affords("a", 900 * MS)  # 40 are paid back, and the bucket is full again
    assert (budget.need("a"), budget.spent) == (90, {"a": 90})


def test_what_was_taken_out_and_not_spent_comes_back():
    budget = TokenBudget(100.0, 0.0, {"a": 20, "b": 20})
    budget.begin("a", 0)
    assert not budget.affords("b", 0)
    budget.end("a", 0, 0)  # a gate had only looked
    assert budget.affords("b", 0)
    assert budget.need("a") == 20
    budget.begin("b", 0)
    budget.end("b", None, 0)  # it failed: what it was expected to take is gone
    assert not budget.affords("b", 0)
    assert budget.spent == {"a": 0, "b": 20}


def test_an_interrupted_answer_goes_on_while_a_new_one_waits_for_its_tokens():
    budget = TokenBudget(10.0, 0.0, {"a": 10, "b": 10})
    claims = {"a": Claim(), "b": Claim(min_rate_hz=5.0)}
    schedule = Schedule(claims, {"a": 0.1, "b": 0.1}, budget)
    schedule.ask("a", 0)
    schedule.begin("a", 0)
    schedule.ask("b", 1)
    assert not schedule.preempted("a", 2)  # b goes first, and has no tokens
    assert schedule.preempted("a", 1100 * MS)
    schedule.lend("a", 1100 * MS)
    assert schedule.next(1100 * MS) == "b"
    schedule.begin("b", 1100 * MS)
    schedule.end("b", 1200 * MS, 10)
    schedule.ask("b", 1200 * MS)
    assert schedule.next(1200 * MS) == "a"  # b is owed first, and has no tokens
    schedule.begin("a", 1200 * MS)
    assert schedule.preempted("a", 2300 * MS)


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_stream_without_pictures_waits_for_nobodys_tokens(tokens):
    budget = TokenBudget(1.0, 0.0, {"a": tokens})
    assert budget.affords("a", 0)
    assert budget.seconds("a") == tokens
