"""The limit that good pictures stay under."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgevlm.errors import ContractError
from edgevlm.runtime.perception import threshold
from edgevlm.runtime.perception.threshold import limit, student


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 30, 49])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.95, 0.99, 0.999])
def test_quantiles_are_those_of_scipy(share: float, freedom: int):
    assert student(share, freedom) == pytest.approx(
        stats.t.ppf(share, freedom), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("count", [2, 4, 10])
@pytest.mark.parametrize("false_alarms", [0.01, 0.05, 0.2])
def test_the_next_good_picture_is_over_it_as_often_as_stated(
    monkeypatch: pytest.MonkeyPatch, count: int, false_alarms: float
):
    monkeypatch.setattr(threshold, "LEAST_SPREAD", 0.0)
    drawn = np.random.default_rng(3).normal(1.0, 0.3, (20000, count + 1))
    over = sum(row[-1] > limit(row[:-1], false_alarms) for row in drawn) / len(drawn)
    spread = np.sqrt(false_alarms * (1 - false_alarms) / len(drawn))
    assert over == pytest.approx(false_alarms, abs=5 * spread)


def test_equal_scores_still_leave_room():
    assert limit([0.2, 0.2, 0.2], 0.01) > 0.2
    assert limit([0.2], 0.05) > 0.2


@pytest.mark.parametrize(("scores", "false_alarms"), [([], 0.1), ([1.0], 0.0), ([1.0], 1.0)])
def test_nothing_to_go_by_is_refused(scores: list[float], false_alarms: float):
    with pytest.raises(ContractError, match="wanted at least one score and a share"):
        limit(scores, false_alarms)
