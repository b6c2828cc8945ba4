"""Calibrated rounding: less error where the inputs are, and the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.export.calibrate.gptq import importance, quantize
from edgevlm.export.quantize import QuantBlocks, quantize_asymmetric, quantize_symmetric
from edgevlm.tensors import Float32
from tests.export.tiny import bundle_logits, config, export_to, save, torch_logits


def layer(seed: int = 3) -> tuple[Float32, Float32]:
    """A matrix, and inputs whose columns go together and differ in size."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(400, 96)) @ draw.normal(size=(96, 96)) / 8
    rows = mixed * draw.uniform(0.1, 3.0, 96)
    return draw.normal(size=(48, 96)).astype(np.float32), rows.astype(np.float32)


def error(matrix: Float32, blocks: QuantBlocks, rows: Float32) -> float:
    """Mean squared error of the layer's outputs."""
    return float(np.square(rows @ (matrix - blocks.dequantize()).T).mean())


@pytest.mark.parametrize("symmetric", [False, True])
def test_outputs_are_nearer_than_with_rounding_to_nearest(symmetric: bool):
    matrix, rows = layer()
    found = quantize(matrix, importance(rows.T @ rows), symmetric=symmetric)
    nearest = quantize_symmetric(matrix, 4) if symmetric else quantize_asymmetric(matrix, 4)
    assert error(matrix, found, rows) < 0.75 * error(matrix, nearest, rows)
    assert found.values.shape == nearest.values.shape
    assert found.values.max() <= 15
    assert (found.zeros is None) == symmetric


def test_inputs_that_are_always_zero_do_no_harm():
    matrix, rows = layer()
    rows[:, 10:40] = 0
    found = quantize(matrix, importance(rows.T @ rows))
    assert np.isfinite(found.scales).all()
    assert np.abs(matrix - found.dequantize())[:, 10:40].max() < 0.6


def test_a_bundle_in_four_bits_says_that_it_is_calibrated(tmp_path: Path):
    made = save(tmp_path / "checkpoint", config("llama"))
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4", allow_drift=True)
    (note,) = bundle.manifest.graphs["decoder"].notes
    assert note == "4-bit weights calibrated on 15360 tokens (GPTQ)"
    plain = export_to(made.folder, tmp_path / "plain", precision="int8", allow_drift=True)
    assert plain.manifest.graphs["decoder"].notes == ()


def test_queries_keys_and_values_may_differ_in_precision(tmp_path: Path):
    made = save(tmp_path / "checkpoint", config("llama"))
    options = {"overrides": {"*.v_proj": "int8"}, "allow_drift": True}  # fp32's gate is for fp32
    bundle = export_to(made.folder, tmp_path / "bundle", **options)
    weights = bundle.manifest.weights
    assert (weights["layers.0.attn.qk"].bits, weights["layers.0.attn.v"].bits) == (None, 8)
    found, wanted = bundle_logits(bundle, [5, 80, 9]), torch_logits(made.model, [5, 80, 9])
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
