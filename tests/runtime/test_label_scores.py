"""Probabilities of labels and of none of them, against their formulas written out."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest

from edgevlm.bundle.text import NoneSpec, TextSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.model.label_scores import GENERAL, none_of, with_none

LABELS = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
OTHERS = np.array([[0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]], np.float32)
PICTURE = np.array([0.8, 0.6], np.float32)


def spec(scores: Literal["softmax", "sigmoid"], none: NoneSpec | None = None) -> TextSpec:
    """Of a model with a scale of 5."""
    return TextSpec(
        context_length=8, width=2, pad_token_id=0, padding="longest", scores=scores,
        logit_scale=5.0, logit_bias=-1.0, none=none,
    )  # fmt: skip


def test_none_is_as_likely_as_its_texts_are_on_average():
    none = NoneSpec(texts=("a", "b", "c"), temperature=2.0, bias=0.3)
    found = with_none(PICTURE, LABELS, OTHERS, spec("softmax"), none)
    labels = [math.exp((5 * c - 1) / 2) for c in (0.8, 0.6)]
    mean = sum(math.exp((5 * c - 1) / 2) for c in (0.96, -0.8, -0.6)) / 3
    whole = [*labels, mean * math.exp(0.3)]
    assert found == pytest.approx([x / sum(whole) for x in whole], abs=1e-6)


def test_where_texts_are_judged_alone_none_is_there_as_far_as_no_label_is():
    none = NoneSpec(texts=("a",))
    found = with_none(PICTURE, LABELS, OTHERS, spec("sigmoid"), none)
    each = [1 / (1 + math.exp(-(5 * c - 1))) for c in (0.8, 0.6)]
    assert found == pytest.approx([*each, (1 - each[0]) * (1 - each[1])], abs=1e-6)


def test_what_stands_for_none_comes_from_the_bundle_or_from_the_caller():
    declared = NoneSpec(texts=("junk",), temperature=3.0, bias=1.0)
    assert none_of(False, spec("softmax", declared)) is None
    assert none_of(True, spec("softmax", declared)) == declared
    assert none_of(True, spec("softmax")) == GENERAL
    given = none_of(["mine"], spec("softmax", declared))
    assert given == NoneSpec(texts=("mine",), temperature=3.0, bias=1.0)
    with pytest.raises(ContractError, match="got str"):
        none_of("mine", spec("softmax"))
