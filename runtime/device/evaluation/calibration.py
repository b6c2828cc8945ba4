"""Whether confidences are shares of right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.tensors import Array

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers of about one confidence.

    Args:
        count: how many.
        confidence: their mean, in [0, 1].
        right: the share of them that is right.
    """

    count: int
    confidence: float
    right: float


def bins(confidence: Sequence[float] | Array, right: Sequence[bool] | Array) -> list[Bin]:
    """The reliability diagram: ``BINS`` bins of equal width, those that nothing is in left out.

    Args:
        confidence: each in [0, 1].
        right: as many.

    Raises:
        ContractError: lists that do not fit.
    """
    sure, is_right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if sure.shape != is_right.shape or ((sure < 0) | (sure > 1)).any():
        raise ContractError("as many confidences, each in [0, 1], as answers are wanted")
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        Bin(
            count=int((place == n).sum()),
            confidence=float(sure[place == n].mean()),
            right=float(is_right[place == n].mean()),
        )
        for n in range(BINS)
        if (place == n).any()
    ]


def calibration_error(found: Sequence[Bin]) -> float | None:
    """Expected calibration error; None of nothing.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3.
    """
    total = sum(b.count for b in found)
    if not total:
        return None
    return sum(b.count * abs(b.right - b.confidence) for b in found) / total
