"""Who goes next: no starvation and kept rates, for all mixes of claims, on a clock of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.runtime.stream.schedule import EVERYBODY, NEVER_NS, Claim, Schedule, kept_rates

MS = 1_000_000


@dataclass
class Load:
    """A stream of the model's time: answers of ``steps`` quanta, asked for after ``idle_ms``."""

    claim: Claim
    steps: int
    idle_ms: int = 0
    within_ms: int | None = None
    waits_ns: list[int] = field(default_factory=list)
    ends_ns: list[int] = field(default_factory=list)


def simulate(
    loads: dict[str, Load], quantum_ms: int, seconds: float, known: bool = True
) -> Schedule:
    """One model that works in quanta which nothing interrupts, and streams that never tire."""
    costs = {n: load.steps * quantum_ms / 1e3 for n, load in loads.items()} if known else None
    schedule = Schedule({n: load.claim for n, load in loads.items()}, costs)
    now, holder = 0, None
    wanting = dict.fromkeys(loads, 0)  # from when on they want the model
    asked: dict[str, int] = {}
    left = {name: load.steps for name, load in loads.items()}
    while now < seconds * 1e9:
        for name, at in list(wanting.items()):
            if at <= now:
                within = loads[name].within_ms
                due = NEVER_NS if within is None else at + within * MS
                schedule.ask(name, at, due)
                asked[name] = wanting.pop(name)
        if holder is not None and schedule.preempted(holder, now):
            schedule.lend(holder, now)
            holder = None
        if holder is None:
            holder = schedule.next(now)
            if holder is None:
                now = min(wanting.values())
                continue
            schedule.begin(holder, now)
        now += quantum_ms * MS
        left[holder] -= 1
        if not left[holder]:
            schedule.end(holder, now)
            load = loads[holder]
            load.waits_ns.append(now - asked[holder])
            load.ends_ns.append(now)
            left[holder] = load.steps
            wanting[holder] = now + load.idle_ms * MS
            holder = None
    for name, at in asked.items():  # who still waits has waited until now
        if name not in wanting:
            loads[name].waits_ns.append(now - at)
    return schedule


LOADS = st.builds(
    Load,
    claim=st.builds(
        Claim, priority=st.integers(-5, 5), min_rate_hz=st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0])
    ),
    steps=st.integers(1, 12),
    idle_ms=st.sampled_from([0, 0, 30, 400]),
    within_ms=st.sampled_from([None, 50, 1000]),
)
MIXES = st.lists(LOADS, min_size=2, max_size=6).map(
    lambda some: dict(zip("abcdef", some, strict=False))
)


@given(mix=MIXES, quantum_ms=st.sampled_from([10, 60]))
@settings(max_examples=40, deadline=None)
def test_nobody_starves_whatever_the_others_want(mix, quantum_ms):
    schedule = simulate(mix, quantum_ms, seconds=20)
    round_s = sum(load.steps for load in mix.values()) * quantum_ms / 1e3
    for name, load in mix.items():
        assert schedule.period_s(name) <= round_s / EVERYBODY * 1.001
        # Owed within two periods of asking at the latest, and late by no more than a quantum.
        bound_ns = 2 * schedule.period_s(name) * 1e9 + quantum_ms * MS
        assert max(load.waits_ns) <= bound_ns, name


@given(mix=MIXES, quantum_ms=st.sampled_from([10, 60]))
@settings(max_examples=40, deadline=None)
def test_promised_rates_are_kept_whenever_their_sum_fits(mix, quantum_ms):
    for load in mix.values():
        load.idle_ms = 0
    seconds = 20.0
    schedule = simulate(mix, quantum_ms, seconds)
    cost_s = {name: load.steps * quantum_ms / 1e3 for name, load in mix.items()}
    promised = sum(load.claim.min_rate_hz * cost_s[name] for name, load in mix.items())
    kept = kept_rates({n: load.claim for n, load in mix.items()}, cost_s)
    for name, load in mix.items():
        if promised <= 1 - EVERYBODY:
            assert kept[name] >= load.claim.min_rate_hz * 0.999
        # One for each period that is over, the first two and what cannot be interrupted apart.
        assert len(load.ends_ns) >= kept[name] * (seconds - quantum_ms / 1e3) - 2, name
        gaps = [b - a for a, b in zip(load.ends_ns, load.ends_ns[1:], strict=False)]
        assert max(gaps, default=0) <= 2 * schedule.period_s(name) * 1e9 + quantum_ms * MS


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(-3, 3), st.floats(0, 50), st.floats(0.001, 30)),
        min_size=1,
    )
)
def test_kept_rates_fill_the_model_once_at_most_and_serve_priorities_in_order(streams):
    claims = {name: Claim(priority, rate) for name, (priority, rate, _) in streams.items()}
    costs = {name: cost for name, (_, _, cost) in streams.items()}
    rates = kept_rates(claims, costs)
    assert sum(rates[n] * costs[n] for n in rates) <= 1 + 1e-9
    common = EVERYBODY / sum(costs.values())
    assert min(rates.values()) >= common * (1 - 1e-9)
    missed = [claims[n].priority for n in rates if rates[n] < claims[n].min_rate_hz * (1 - 1e-9)]
    extra = [claims[n].priority for n in rates if rates[n] > common * (1 + 1e-9)]
    assert not missed or not extra or min(extra) >= max(missed)


def test_without_claims_streams_take_turns():
    mix = {name: Load(Claim(), steps=3) for name in "abc"}
    simulate(mix, quantum_ms=10, seconds=9)
    assert {len(load.ends_ns) for load in mix.values()} == {100}
    assert max(max(load.waits_ns) for load in mix.values()) <= 90 * MS


def test_a_higher_priority_has_what_is_left_and_interrupts():
    door, yard = Load(Claim(priority=1), steps=2, idle_ms=100), Load(Claim(), steps=50)
    simulate({"door": door, "yard": yard}, quantum_ms=10, seconds=60)
    waits = sorted(door.waits_ns)
    assert waits[len(waits) // 2] <= 30 * MS  # two quanta of its own and one that was under way
    assert yard.ends_ns, "the share that is everybody's"
    assert max(yard.waits_ns) <= 2 * 5.2e9 + 10 * MS


def test_among_equals_what_is_due_first_goes_first():
    names = ("late", "soon", "now")
    schedule = Schedule(dict.fromkeys(names, Claim()), dict.fromkeys(names, 0.1))
    for name in names:  # the first answers of all are owed
        schedule.ask(name, 0)
        schedule.begin(name, 0)
        schedule.end(name, 100 * MS)
    schedule.ask("late", 200 * MS, due_ns=900 * MS)
    schedule.ask("soon", 210 * MS, due_ns=500 * MS)
    assert schedule.next(220 * MS) == "soon"
    schedule.begin("soon", 220 * MS)
    assert not schedule.preempted("soon", 230 * MS)
    schedule.ask("now", 230 * MS, due_ns=300 * MS)
    assert schedule.preempted("soon", 230 * MS)
    schedule.lend("soon", 230 * MS)
    assert schedule.next(230 * MS) == "now"


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_costs_are_learnt_where_nobody_has_measured_them(rate):
    mix = {"a": Load(Claim(min_rate_hz=rate), steps=5), "b": Load(Claim(priority=5), steps=20)}
    simulate(mix, quantum_ms=10, seconds=60, known=False)
    assert len(mix["a"].ends_ns) >= rate * 58 - 2


def test_an_answer_that_was_lent_costs_only_its_own_time():
    schedule = Schedule({"a": Claim(), "b": Claim(priority=1)})
    schedule.ask("a", 0)
    schedule.begin("a", 0)
    schedule.lend("a", 40 * MS)
    schedule.begin("a", 500 * MS)
    schedule.end("a", 510 * MS)
    assert schedule.cost_s("a") == pytest.approx(0.05)
