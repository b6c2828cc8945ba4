"""An evaluation as a table for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevlm.runtime.device.evaluation.calibration import Bin, bins
from edgevlm.runtime.device.evaluation.example import Answered
from edgevlm.runtime.device.evaluation.scores import Score, judged
from edgevlm.runtime.device.evaluation.share import Share

COLUMNS = ("kind", "questions", "right, %", "blind", "majority", "pairs, %", "yes", "no", "refused")


def rows(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """A row of ``COLUMNS`` a kind: percent, of right answers and pairs with the 95 % interval."""
    return [
        (
            score.kind, str(score.right.of), score.right.percent(), _plain(score.blind),
            _plain(score.majority), _of_pairs(score.pairs), _plain(score.yes), _plain(score.no),
            _plain(score.refused),
        )
        for score in scores
    ]  # fmt: skip


def plain(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The same for JSON, every share with its count and interval."""
    return [
        {
            name: value.plain() if isinstance(value, Share) else value
            for name in Score.__slots__
            for value in [getattr(score, name)]
        }
        for score in scores
    ]


def plain_answers(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """Every answer for JSON; pictures that are no files are left out."""
    found = []
    for one, right in zip(answers, judged(answers), strict=True):
        example = one.example
        path = isinstance(example.picture, str | Path)
        place = {"picture": str(example.picture)} if path else {}
        found.append(
            {
                **place, "kind": example.kind, "question": example.question,
                "answers": list(example.answers), "said": one.text, "right": right,
                "confidence": one.confidence,
            }
        )  # fmt: skip
    return found


def reliability(answers: Sequence[Answered]) -> list[Bin]:
    """How often answers of about one confidence are right; those without one are left out."""
    known = [
        (one.confidence, right)
        for one, right in zip(answers, judged(answers), strict=True)
        if one.confidence is not None
    ]
    return bins([sure for sure, _ in known], [right for _, right in known])


def _plain(share: Share | None) -> str:
    return "-" if share is None or share.value is None else f"{100 * share.value:.1f}"


def _of_pairs(share: Share) -> str:
    return "-" if share.value is None else f"{share.percent()} of {share.of}"
