from __future__ import annotations

import pytest

from benchmarks.gate_metrics import Verdict, judge, upper_bound
from edgevlm.export.nano_data.story import Change


def change(
    begun: int, frame: int | None = None, until: int = 1000, shown: int | None = None
) -> Change:
    frame = begun if frame is None else frame
    return Change(
        kind="appear", begun=begun, shown=frame if shown is None else shown, frame=frame,
        until=until, box_xyxy=(0, 0, 9, 9), area_px=81, contrast=50.0,
    )  # fmt: skip


def test_a_change_is_seen_in_time_late_or_never():
    changes = [change(20), change(40), change(60)]
    verdict = judge(changes, [0, 20, 47, 70], frames=100, fps=10, within_s=1.0)
    assert verdict.missed == [changes[2]]  # 70 is a second after 60: too late
    assert verdict.delays == [0, 7]
    assert verdict.delays_ms == [0.0, 700.0]


def test_a_change_that_has_ended_cannot_be_seen_any_more():
    short = change(20, until=25)
    assert judge([short], [0, 25], 100, 10, 1.0).missed == [short]
    assert judge([short], [0, 24], 100, 10, 1.0).missed == []


def test_frames_on_the_way_count_only_when_it_is_nearly_there():
    slide = change(20, frame=25, shown=24)
    assert judge([slide], [0, 20, 23], 100, 10, 1.0).missed == [slide]
    verdict = judge([slide], [0, 20, 24], 100, 10, 1.0)
    assert (verdict.missed, verdict.delays, verdict.false_wakes) == ([], [0], 0)


def test_a_wake_is_false_with_nothing_new_since_the_last():
    slide = change(20, frame=25)
    verdict = judge([slide], [0, 10, 21, 22, 26, 27, 50], 100, 10, 1.0)
    # 10, 27 and 50; the first frame is always looked at, and 26 is the first to show 25.
    assert verdict.false_wakes == 3
    assert judge([slide], [0, 10], 100, 10, 1.0, complete=False).judged_frames == 0


def test_rates_are_percent_of_frames_and_changes():
    verdict = judge([change(20), change(40)], [0, 20], 200, 10, 1.0)
    verdict.cost_ms = [1.0, 2.0, 9.0]
    other = judge([], [0, 5], 200, 10, 1.0)
    together = Verdict()
    together.add(verdict)
    together.add(other)
    row = together.row()
    assert (row["frames"], row["passed"], row["skip_percent"]) == (400, 4, 99.0)
    assert (row["miss_percent"], row["missed"], row["changes"]) == (50.0, 1, 2)
    assert row["false_wake_percent"] == 0.25
    assert row["cost_ms_p50"] == 2.0
    assert other.row()["miss_percent"] is None


@pytest.mark.parametrize(
    ("missed", "of", "bound"),
    [
        (0, 300, 1 - 0.05 ** (1 / 300)),
        (0, 1, 0.95),
        # R: binom.test(k, n, alternative = "less")$conf.int, from the quantiles of the beta
        # distribution qbeta(0.95, k + 1, n - k).
        (1, 100, 0.0465598),
        (3, 50, 0.1478385),
        (5, 5, 1.0),
    ],
)
def test_the_upper_bound_is_exact(missed: int, of: int, bound: float):
    assert upper_bound(missed, of) == pytest.approx(bound, rel=1e-4)
