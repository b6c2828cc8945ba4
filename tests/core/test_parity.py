"""The metrics of the certificate, against values computed by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from edgevlm.parity import (
    GATE_COSINE,
    GATE_KL_NATS,
    GATE_LOGITS_FP32,
    BackendParity,
    Certificate,
    cosine,
    judge_greedy,
    judge_logits,
    judge_stage,
    kl_nats,
    max_abs,
)


def row(*values: float) -> np.ndarray:
    """One row of float32 values."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        (row(1, 0), row(0, 1), 0.0),
        (row(1, 2), row(2, 4), 1.0),
        (row(1, 2), row(-1, -2), -1.0),
        (row(3, 4), row(4, 3), 24 / 25),
        (row(0, 0), row(0, 0), 1.0),
        (row(0, 0), row(0, 1), 0.0),
    ],
)
def test_cosine_by_hand(a: np.ndarray, b: np.ndarray, value: float):
    assert cosine(a, b) == pytest.approx(value, abs=1e-12)


def test_cosine_looks_at_all_axes_together():
    assert cosine(np.array([[3.0], [4.0]]), np.array([[4.0], [3.0]])) == pytest.approx(24 / 25)


def test_cosine_of_large_half_precision_numbers_does_not_overflow():
    big = np.full(1000, 60_000, np.float16)
    assert cosine(big, big) == pytest.approx(1.0)


def test_the_largest_difference_by_hand():
    assert max_abs(row(1, 5, -2), row(1.5, 5, -5)) == 3.0
    assert max_abs(row(), row()) == 0.0
    assert max_abs(np.array([200], np.uint8), np.array([201], np.uint8)) == 1.0


def test_divergence_by_hand():
    reference = np.log(np.array([[0.5, 0.5]], np.float32))
    other = np.log(np.array([[0.25, 0.75]], np.float32))
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_nats(reference, other) == pytest.approx(expected, rel=1e-6)
    assert kl_nats(reference, reference) == 0.0


def test_divergence_is_the_mean_over_rows_and_ignores_a_constant():
    reference = np.log(np.array([[0.5, 0.5], [0.5, 0.5]], np.float32))
    other = np.log(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)) + 100
    first = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert kl_nats(reference, other) == pytest.approx(first / 2, rel=1e-4)


def test_divergence_of_large_logits_does_not_overflow():
    reference, other = row(5000, -5000)[None], row(4999, -5000)[None]
    assert kl_nats(reference, other) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("precision", GATE_COSINE)
def test_a_stage_passes_at_its_gate_and_misses_below(precision: str):
    gate = GATE_COSINE[precision]
    reference = np.array([1.0, 0.0])
    for angle, passed in ((math.acos(gate) * 0.99, True), (math.acos(gate) * 1.01, False)):
        found = np.array([math.cos(angle), math.sin(angle)])
        stage = judge_stage("vision.features", precision, reference, found)
        assert stage.passed is passed
        assert stage.gate_cosine == gate
        assert stage.cosine == pytest.approx(math.cos(angle), abs=1e-8)


def test_fp32_logits_are_held_to_the_largest_error():
    reference = np.zeros((3, 4), np.float32)
    for error, passed in ((0.99 * GATE_LOGITS_FP32, True), (1.01 * GATE_LOGITS_FP32, False)):
        found = reference.copy()
        found[2, 1] = error
        judged = judge_logits("fp32", reference, found)
        assert judged.passed is passed
        assert judged.max_abs == pytest.approx(error, rel=1e-3)
        assert judged.positions == 3


@pytest.mark.parametrize("precision", GATE_KL_NATS)
def test_quantised_logits_are_held_to_the_divergence_and_not_to_the_error(precision: str):
    reference = np.zeros((2, 2), np.float32)
    assert judge_logits("int4", reference, reference + 50).passed
    gap = np.zeros((2, 2), np.float32)
    gap[:, 0] = 5  # over two tokens: ln 2 - ... = 1.81 nats, above every gate
    judged = judge_logits(precision, reference, gap)
    expected = 0.5 * math.log(0.5 * (1 + math.exp(-5))) + 0.5 * math.log(0.5 * (1 + math.exp(5)))
    assert judged.kl_nats == pytest.approx(expected, rel=1e-3)
    assert not judged.passed


def test_a_greedy_miss_counts_only_where_the_reference_was_sure():
    tokens = np.array([0, 1, 1, 0])
    found = np.array([[3, 0], [0, 3], [3, 0], [0, 3]], np.float32)  # misses steps 2 and 3
    unsure = judge_greedy(tokens, row(9, 9, 9, 9), found, logit_error=1.0)
    assert (unsure.steps, unsure.agreed, unsure.decisive_misses, unsure.passed) == (4, 2, 0, True)
    sure = judge_greedy(tokens, row(9, 9, 10.5, 9), found, logit_error=1.0)
    assert (sure.agreed, sure.decisive_misses, sure.passed) == (2, 1, False)


def test_a_certificate_names_every_gate_that_is_missed():
    stage = judge_stage("vision.features", "fp32", np.array([1.0, 0]), np.array([0, 1.0]))
    logits = judge_logits("fp32", np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    greedy = judge_greedy(np.array([1]), row(9), np.array([[1, 0]], np.float32), 0.1)
    backend = BackendParity(
        backend="x", status="measured", stages=(stage,), logits=logits, greedy=greedy
    )
    assert backend.misses == ("vision.features", "logits", "greedy")
    good = BackendParity(backend="y", status="measured")
    whole = Certificate(reference="r", precision="fp32", backends=(good, backend))
    assert not whole.passed
    assert Certificate(reference="r", precision="fp32", backends=(good,)).passed


def test_a_graph_that_gives_nan_misses_its_gates_and_the_certificate_can_still_be_read():
    nan = np.full((1, 2), np.nan, np.float32)
    stage = judge_stage("vision.features", "fp32", np.ones((1, 2)), nan)
    logits = judge_logits("int4", np.ones((1, 2), np.float32), nan)
    assert not stage.passed
    assert not logits.passed
    backend = BackendParity(backend="x", status="measured", stages=(stage,), logits=logits)
    written = Certificate(reference="r", precision="int4", backends=(backend,)).model_dump_json()
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert Certificate.model_validate_json(written).backends[0].misses == (
        "vision.features", "logits",
    )  # fmt: skip


def test_engines_that_did_not_run_are_named_instead_of_absent():
    def backend(name: str, status: Any) -> BackendParity:
        return BackendParity(backend=name, status=status)

    stored = Certificate(
        reference="numpy", precision="fp32",
        backends=(backend("ort-cpu", "measured"), backend("trt", "absent"),
                  backend("ort-cuda", "absent")),
    )  # fmt: skip
    made = [backend(n, "compiled, not run") for n in ("trt-rtx", "trt", "trt-rtx", "ort-cpu")]
    found = stored.with_engines(made)
    assert [(b.backend, b.status) for b in found.backends] == [
        ("ort-cpu", "measured"), ("trt", "compiled, not run"), ("ort-cuda", "absent"),
        ("trt-rtx", "compiled, not run"),
    ]  # fmt: skip
    assert found.passed
    assert stored.with_engines([]) == stored
