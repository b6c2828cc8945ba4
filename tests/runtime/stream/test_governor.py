"""The governor: down a declared ladder under pressure, up again behind it, and never to and fro."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.box import BoxConfig, GovernorSection, make_settings
from edgevlm.bundle import Bundle
from edgevlm.errors import ConfigError
from edgevlm.event import AnswerEvent, FaultEvent
from edgevlm.runtime.stream.box import run_box
from edgevlm.runtime.stream.caps import UNCAPPED, Caps
from edgevlm.runtime.stream.governor import Governor, Reading, read_machine

LADDER = [{"rate_hz": 2.0}, {"max_tokens": 16}, {"rate_hz": 0.5, "max_side": 384}]


def governor(**settings: Any) -> Governor:
    raw = {"ladder": LADDER, "busy": 2.0, "low_mb": 400, "hold_s": 5, "recover_s": 30, **settings}
    return Governor(GovernorSection.model_validate(raw))


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Path]:
    """A tree with thermal zones in millidegrees, a load and free memory."""

    def make(*millidegrees: int | str, load: str = "0.50", free_kb: int = 4_000_000) -> Path:
        for number, value in enumerate(millidegrees):
            zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
            zone.mkdir(parents=True, exist_ok=True)
            (zone / "temp").write_text(f"{value}\n")
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/loadavg").write_text(f"{load} 0.40 0.30 2/300 4242\n")
        (tmp_path / "proc/meminfo").write_text(f"MemTotal: 8 kB\nMemAvailable: {free_kb} kB\n")
        return tmp_path

    return make


def test_the_hottest_sane_zone_counts(machine):
    reading = read_machine(machine(41500, 66000, -256000, "", 999999), cores=2)
    assert reading == Reading(celsius=66.0, load=0.25, free_mb=4096.0)


def test_a_machine_that_says_nothing_presses_nobody(tmp_path):
    reading = read_machine(tmp_path)
    assert reading == Reading()
    one = governor(hold_s=0)
    assert one.look(reading, 0) is None
    assert one.caps is UNCAPPED


def test_it_climbs_down_step_by_step_and_up_again():
    one = governor()
    hot, cool = Reading(celsius=91.0), Reading(celsius=60.0)
    said = [(t, w) for t in range(0, 25) if (w := one.look(hot, t)) is not None]
    assert [t for t, _ in said] == [5, 10, 15]
    assert said[0][1] == "down to step 1 of 3, 91 degrees C: at most rate_hz 2"
    assert one.caps == Caps(
        rate_hz=0.5,
        max_tokens=16,
        max_side=384,
        why="governor: step 3 of 3: rate_hz 0.5, max_tokens 16, max_side 384",
    )
    said = [(t, w) for t in range(25, 140) if (w := one.look(cool, t)) is not None]
    assert [t for t, _ in said] == [55, 85, 115]
    assert said[-1][1] == "up to step 0 of 3, pressure is gone: nothing is bounded"
    assert one.caps == UNCAPPED


@pytest.mark.parametrize(
    "reading", [Reading(load=2.5), Reading(free_mb=300.0), Reading(celsius=85.0)], ids=str
)
def test_every_kind_of_pressure_counts(reading):
    one = governor(hold_s=0)
    assert one.look(reading, 0) is not None
    assert one.level == 1


@given(st.lists(st.floats(75.01, 84.99), min_size=1, max_size=200))
def test_between_the_marks_nothing_changes(readings):
    one = governor(hold_s=0, recover_s=0)
    one.look(Reading(celsius=90.0), 0)
    assert one.level == 1
    assert all(one.look(Reading(celsius=c), t) is None for t, c in enumerate(readings, 1))
    assert one.level == 1


@given(st.lists(st.floats(20, 120), min_size=2, max_size=300))
def test_it_never_turns_round_sooner_than_its_times(readings):
    one, last = governor(), (0.0, "up")
    for now, celsius in enumerate(readings):
        said = one.look(Reading(celsius=celsius), now)
        assert 0 <= one.level <= 3
        if said is None:
            continue
        word = said.partition(" ")[0]
        if word != last[1]:
            assert now - last[0] >= (5 if word == "down" else 30)
        last = (now, word)


def test_caps_only_lower_what_a_stream_has():
    caps = Caps(rate_hz=2.0, max_tokens=16, max_side=64)
    assert (caps.tokens(8), caps.tokens(32)) == (8, 16)
    assert (caps.rate(None), caps.rate(1.0), caps.rate(5.0)) == (2.0, 1.0, 2.0)
    assert UNCAPPED.rate(None) is None
    assert caps.fit(np.zeros((100, 200, 3), np.uint8)).shape == (32, 64, 3)
    small = np.zeros((10, 64, 3), np.uint8)
    assert caps.fit(small) is small


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"ladder": []}, "at least 1"),
        ({"ladder": [{}]}, "a step bounds"),
        ({"ladder": LADDER, "hot_c": 70}, "must be below"),
        ({"ladder": LADDER, "colour": 1}, "unknown key"),
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused(section, words):
    raw = {"bundle": "-", "governor": section}
    streams = [{"name": "a", "ask": "?", "source": {"uri": "-"}}]
    with pytest.raises(ConfigError, match=words):
        make_settings({**raw, "streams": streams})


def test_streams_of_a_hot_machine_do_less_and_say_so(nano: Bundle, machine):
    box = make_settings(
        {
            "bundle": str(nano.root),
            "engine": {"threads": 1},
            "governor": {"ladder": [{"max_tokens": 2}], "hold_s": 0},
            "streams": [
                {
                    "name": name,
                    "ask": "What is it?",
                    "source": {"uri": f"synthetic:?seed={seed}&fps=10&frames=3&size=160x120"},
                    "policy": {"gate": False},
                    "generation": {"max_tokens": 5},
                }
                for seed, name in enumerate(("a", "b"))
            ],
        }
    )
    assert isinstance(box, BoxConfig)
    events = list(run_box(box, lambda: False, lambda _: None, root=machine(91000)))
    late = [e for e in events if isinstance(e, AnswerEvent) and e.frame > 0]
    assert {e.tokens.output for e in late} == {2}
    assert {e.degraded[-1] for e in late} == {"governor: step 1 of 1: max_tokens 2"}
    faults = [e for e in events if isinstance(e, FaultEvent)]
    assert {(e.stream, e.code) for e in faults} == {("a", "throttled"), ("b", "throttled")}
    assert faults[0].message == "down to step 1 of 1, 91 degrees C: at most max_tokens 2"
