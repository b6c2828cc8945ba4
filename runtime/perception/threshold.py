"""From the scores of a few good pictures to the limit over which a picture is called unlike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgevlm.errors import ContractError

LEAST_SPREAD = 0.05  # of the mean: equal scores do not mean that all to come are equal


def limit(scores: Sequence[float], false_alarms: float) -> float:
    """The score that the next good picture stays under, save for a share of them.

    The upper end of a one-sided prediction interval of a normal distribution: with few pictures
    it lies far out, and comes nearer with every picture.

    Args:
        scores: of good pictures that the bank did not hold, at least one.
        false_alarms: share of good pictures that may be over it, in (0, 1).

    Raises:
        ContractError: no score, or no share.

    Source: Hahn and Meeker, Statistical Intervals (1991), section 4.6:
    mean + t * s * sqrt(1 + 1/n).
    """
    if not len(scores) or not 0 < false_alarms < 1:
        raise ContractError(
            f"{len(scores)} scores and {false_alarms:g} false alarms: wanted at least one score "
            "and a share between 0 and 1"
        )
    values = np.asarray(scores, np.float64)
    mean, count = float(values.mean()), len(values)
    spread = max(float(values.std(ddof=1)) if count > 1 else 0.0, LEAST_SPREAD * abs(mean))
    return mean + student(1 - false_alarms, max(count - 1, 1)) * spread * math.sqrt(1 + 1 / count)


def student(share: float, freedom: int) -> float:
    """The quantile of Student's distribution, by halving an interval of its distribution function.

    Args:
        share: in (0, 1).
        freedom: degrees of freedom, at least 1.
    """
    if share == 0.5:
        return 0.0
    if share < 0.5:
        return -student(1 - share, freedom)
    low, high = 0.0, 1.0
    while _distribution(high, freedom) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _distribution(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _distribution(t: float, freedom: int) -> float:
    """Of Student's distribution with whole degrees of freedom, for t >= 0.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    if freedom % 2:
        terms, term = 0.0, cosine
        for n in range(1, freedom - 1, 2):
            terms += term
            term *= cosine * cosine * (n + 1) / (n + 2)
        within = 2 / math.pi * (angle + sine * terms)
    else:
        terms, term = 0.0, 1.0
        for n in range(0, freedom - 1, 2):
            terms += term
            term *= cosine * cosine * (n + 1) / (n + 2)
        within = sine * terms
    return 0.5 + within / 2
