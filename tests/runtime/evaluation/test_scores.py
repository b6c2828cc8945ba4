"""Scores of answers that are known to be right or wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgevlm.errors import ContractError
from edgevlm.runtime.device.evaluation.calibration import bins, calibration_error
from edgevlm.runtime.device.evaluation.example import Answered, Example
from edgevlm.runtime.device.evaluation.scores import judged, scores
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.device.evaluation.summary import (
    COLUMNS,
    plain,
    plain_answers,
    reliability,
    rows,
)


def said(
    question: str, right: str, answer: str, kind: str = "presence", sure: float | None = None
) -> Answered:
    example = Example(picture=Path(right + ".png"), question=question, answers=(right,), kind=kind)
    return Answered(example=example, text=answer, confidence=sure)


CAT = "Is there a cat?"
ANSWERS = [
    said(CAT, "yes", "Yes."),
    said(CAT, "no", "Yes."),
    said(CAT, "no", "No."),
    said("Is there a dog?", "no", "I cannot tell"),
    said("What colour is it?", "red", "red", "colour"),
    said("What colour is it?", "blue", "It is blue", "colour"),
    said("Which colour?", "red", "blue and red", "colour"),
    said("Who owns it?", "I cannot tell", "red", "unanswerable"),
]


@given(st.integers(1, 400).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_intervals_are_those_of_scipy(counted: tuple[int, int]):
    wanted = binomtest(*counted).proportion_ci(method="wilson")
    assert Share(*counted).interval() == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_of_nothing_there_is_no_share():
    nothing = Share(0, 0)
    assert (nothing.value, nothing.interval(), nothing.percent()) == (None, None, "-")
    with pytest.raises(ContractError, match="3 of 2"):
        Share(3, 2)


def test_scores_are_kept_by_kind():
    presence, colour, unanswerable = scores(ANSWERS)
    assert presence.right == Share(2, 4)
    assert (presence.yes, presence.no, presence.false_yes) == (
        Share(1, 1),
        Share(1, 3),
        Share(1, 3),
    )
    assert presence.majority == Share(3, 4)  # "no" to everything
    assert presence.refused == Share(1, 4)
    assert colour.right == Share(2, 3)
    assert colour.majority == Share(2, 3)  # "red"
    assert unanswerable.right == Share(0, 1)
    assert unanswerable.refused == Share(0, 0)


def test_a_pair_is_the_same_question_with_two_answers_both_right():
    presence, colour, _ = scores(ANSWERS)
    assert presence.pairs == Share(0, 1)  # yes goes with the first no, which was answered wrongly
    assert colour.pairs == Share(1, 1)


def test_what_is_answered_without_the_picture_stands_beside_it():
    blind = [Answered(example=a.example, text="no", confidence=None) for a in ANSWERS]
    presence, colour, _ = scores(ANSWERS, blind)
    assert presence.blind == Share(3, 4)
    assert colour.blind == Share(0, 3)
    with pytest.raises(ContractError, match="same questions"):
        scores(ANSWERS, blind[:-1])


def test_tables_and_json_say_the_same():
    kinds = scores(ANSWERS)
    table, told = rows(kinds), json.loads(json.dumps(plain(kinds)))
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert table[0][:3] == ("presence", "4", "50.0 [15.0, 85.0]")
    assert told[0]["right"]["share"] == 0.5
    assert told[0]["blind"] is None
    answers = json.loads(json.dumps(plain_answers(ANSWERS)))
    assert [a["right"] for a in answers] == judged(ANSWERS)
    assert answers[0]["picture"] == "yes.png"


def test_the_calibration_error_is_the_mean_distance_of_its_bins():
    confidence = [0.95, 0.95, 0.95, 0.95, 0.55, 0.55]
    right = [True, True, True, False, False, False]
    found = bins(confidence, right)
    assert [(b.count, b.right) for b in found] == [(2, 0.0), (4, 0.75)]
    # (2 * 0.55 + 4 * 0.20) / 6
    assert calibration_error(found) == pytest.approx(0.31667, abs=1e-5)
    assert calibration_error([]) is None
    assert len(bins([1.0, 0.0], [True, False])) == 2
    with pytest.raises(ContractError, match="confidences"):
        bins([1.2], [True])


def test_answers_without_a_confidence_do_not_count_for_calibration():
    sure = [said("Is it?", "yes", "yes", sure=0.8), said("Is it?", "yes", "", sure=None)]
    assert calibration_error(reliability(sure)) == pytest.approx(0.2)
    assert reliability(sure[1:]) == []


def test_an_example_accepts_something():
    with pytest.raises(ContractError, match="nothing is accepted"):
        Example(picture=np.zeros((2, 2, 3), np.uint8), question="?", answers=(), kind="x")
