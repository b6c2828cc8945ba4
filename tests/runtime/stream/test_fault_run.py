from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from benchmarks.fault_run import report, run
from benchmarks.faults.schedule import OF_ALL, OF_THE_CAMERA, OF_THE_STREAM, QUIET, plan
from benchmarks.faults.verdict import problems
from edgevlm.event import FaultEvent
from tests.conftest import missing

KINDS = {*OF_THE_CAMERA, *OF_THE_STREAM, *OF_ALL}


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("duration_s", [36.0, 1800.0])
def test_a_plan_is_the_seeds_and_leaves_the_end_in_peace(seed, duration_s, isolate):
    faults = plan(seed, duration_s, isolate)
    assert faults == plan(seed, duration_s, isolate) != plan(seed + 1, duration_s, isolate)
    assert max(f.at_s + f.lasts_s for f in faults) < duration_s * (1 - QUIET)
    network = sorted((f.at_s, f.at_s + f.lasts_s) for f in faults if f.kind in OF_THE_CAMERA)
    assert all(a[1] < b[0] for a, b in pairwise(network))
    if duration_s > 60:
        assert {f.kind for f in faults} == KINDS | ({"child_killed"} if isolate else set())


def test_four_streams_outlive_what_goes_wrong(nano, tmp_path):
    """Half a minute of stream time in twelve seconds: each kind of fault once, about."""
    outcome = run(nano, 3, 36.0, tmp_path, missing)
    assert outcome.problems == {}, "\n".join(report(outcome))
    assert outcome.threads <= 0
    assert len(outcome.faults) >= 7
    rtsp = Counter(e.code for e in outcome.told["rtsp"].events if isinstance(e, FaultEvent))
    assert rtsp["recovered"] >= 1
    assert outcome.told["mcap"].summary.frames.answered >= 3

    # the judge itself: one event left out, and one frame that nobody accounts for
    told = outcome.told["synthetic"]
    store = tmp_path / "synthetic.db"
    assert problems(told.events, told.times_s, store, 30.0) == []
    lacking = told.events[:1] + told.events[2:]
    assert "seq has a gap" in problems(lacking, told.times_s[1:], store, 30.0)
    frames = told.summary.frames.model_copy(update={"read": told.summary.frames.read + 1})
    cooked = [*told.events[:-1], told.summary.model_copy(update={"frames": frames})]
    assert any("are accounted for" in p for p in problems(cooked, told.times_s, store, 30.0))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_half_an_hour_of_faults(nano, tmp_path):
    outcome = run(nano, 0, 1800.0, tmp_path, missing, isolate=True)
    assert outcome.problems == {}, "\n".join(report(outcome))
    assert outcome.threads <= 0
    assert set(outcome.faults) == KINDS | {"child_killed"}
