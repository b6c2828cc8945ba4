"""Confidences at a bundle's temperatures: other probabilities, the same answers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.confidence import (
    SCHEMA,
    TEMPERATURES,
    Sample,
    drawn,
    fitted,
    sharpened,
)
from edgevlm.bundle import Bundle
from edgevlm.bundle.confidence import ConfidenceSpec
from edgevlm.runtime.device.evaluation.calibration import bins, calibration_error
from edgevlm.runtime.model.field_scores import Choice
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions
from edgevlm.runtime.model.vlm import Vlm

YES_NO = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
SCALED = ConfidenceSpec(fields=3.0, answers=2.0, fitted_on="a test")


def test_a_bundle_scales_its_confidences_and_says_so(tiny: Bundle):
    told = Bundle(tiny.root, tiny.manifest.model_copy(update={"confidence": SCALED}))
    assert tiny.manifest.confidence is None
    assert b'"confidence"' not in tiny.manifest.canonical()  # its id is what it was
    assert b'"confidence"' in told.manifest.canonical()
    with (
        Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as own,
        Vlm(told, open_backend("ort-cpu", threads=1, spin=False)) as scaled,
    ):
        for schema in (None, YES_NO):
            raw, found = (m.ask(None, "Hi", schema=schema, max_tokens=24) for m in (own, scaled))
            assert (found.token_ids, found.answer) == (raw.token_ids, raw.answer)
            assert (raw.calibrated, found.calibrated) == (False, True)
            assert found.confidence < raw.confidence
        odds = raw.field_confidence["/a"] / (1 - raw.field_confidence["/a"])
        expected = odds ** (1 / 3.0) / (1 + odds ** (1 / 3.0))
        assert found.field_confidence["/a"] == pytest.approx(expected, abs=1e-5)
        assert found.confidence == pytest.approx(expected, abs=1e-5)  # one choice was made


def test_the_sampler_tells_the_probability_at_that_temperature():
    logits = np.random.default_rng(2).normal(0, 4, 500).astype(np.float32)
    token, told = Sampler(SamplingOptions(), 2.5).next(logits)
    scaled = logits.astype(np.float64) / 2.5
    assert token == logits.argmax()
    assert told == pytest.approx(scaled[token] - np.log(np.exp(scaled).sum()), abs=1e-5)


def test_the_fit_finds_the_temperature_that_made_the_answers():
    random, samples = np.random.default_rng(4), []
    for _ in range(3000):
        logits = random.normal(0, 6, 4)
        chances = [np.exp(logits / t) / np.exp(logits / t).sum() for t in TEMPERATURES]
        true = random.choice(4, p=np.exp(logits / 3) / np.exp(logits / 3).sum())
        best = int(logits.argmax())
        samples.append(Sample(np.array([p[best] for p in chances]), true == best))
    place = fitted(samples)
    assert TEMPERATURES[place] == pytest.approx(3, rel=0.15)
    right = [s.right for s in samples]
    errors = [
        calibration_error(bins([s.confidence[n] for s in samples], right)) or 0.0
        for n in (place, int(np.abs(TEMPERATURES - 1).argmin()))
    ]
    assert errors[0] < 0.03 < errors[1]


def test_a_choice_at_another_temperature_sums_to_one_and_keeps_its_order():
    choice = Choice(0, 1, ((b"a", 0.8), (b"b", 0.15), (b"c", 0.05)))
    warm = [p for _, p in sharpened(choice, 4.0).legal]
    assert sum(warm) == pytest.approx(1)
    assert warm == sorted(warm, reverse=True)
    assert warm[0] < 0.8
    assert [p for _, p in sharpened(choice, 1.0).legal] == pytest.approx([0.8, 0.15, 0.05])


def test_drawn_pictures_are_the_same_every_time_and_their_truth_fits_the_schema():
    pictures = list(drawn(6, seed=5))
    for (one, truth), (other, again) in zip(pictures, drawn(8, seed=5), strict=False):
        np.testing.assert_array_equal(one, other)
        assert truth == again
        assert truth.keys() == SCHEMA["properties"].keys()
    assert len({picture.tobytes() for picture, _ in pictures}) == 6
