"""Calibrated rounding: less error where the inputs are, and the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import ConfigError
from edgevlm.export import recipe
from edgevlm.export.calibrate import effort
from edgevlm.export.calibrate.decoder import calibrate
from edgevlm.export.calibrate.effort import MOST_TOKENS, strips, tokens_within
from edgevlm.export.calibrate.gptq import importance, quantize
from edgevlm.export.calibrate.spill import Spill
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import QuantBlocks, quantize_asymmetric, quantize_symmetric
from edgevlm.tensors import Float32
from tests.export.tiny import bundle_logits, config, export_to, refused, save, torch_logits


def layer(seed: int = 3) -> tuple[Float32, Float32]:
    """A matrix, and inputs whose columns go together and differ in size."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(400, 96)) @ draw.normal(size=(96, 96)) / 8
    rows = mixed * draw.uniform(0.1, 3.0, 96)
    return draw.normal(size=(48, 96)).astype(np.float32), rows.astype(np.float32)


def error(matrix: Float32, blocks: QuantBlocks, rows: Float32) -> float:
    """Mean squared error of the layer's outputs."""
    return float(np.square(rows @ (matrix - blocks.dequantize()).T).mean())


@pytest.mark.parametrize("block", [32, 96])
@pytest.mark.parametrize("symmetric", [False, True])
def test_outputs_are_nearer_than_with_rounding_to_nearest(symmetric: bool, block: int):
    matrix, rows = layer()
    found = quantize(matrix, importance(rows.T @ rows), symmetric=symmetric, block=block)
    rounding = quantize_symmetric if symmetric else quantize_asymmetric
    nearest = rounding(matrix, 4, block)
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
    bundle = export_to(
        made.folder, tmp_path / "bundle", precision="int4", calibrate=True, allow_drift=True
    )
    (note,) = bundle.manifest.graphs["decoder"].notes
    assert note == "4-bit weights calibrated on 15360 tokens (GPTQ)"
    assert {w.block_size for w in bundle.manifest.weights.values() if w.bits == 4} == {32}


def test_queries_keys_and_values_may_differ_in_precision(tmp_path: Path):
    made = save(tmp_path / "checkpoint", config("llama"))
    options = {"overrides": {"*.v_proj": "int8"}, "allow_drift": True, "repair_budget": 0}
    bundle = export_to(made.folder, tmp_path / "bundle", **options)
    weights = bundle.manifest.weights
    assert bundle.manifest.graphs["decoder"].notes == ()
    assert (weights["layers.0.attn.qk"].bits, weights["layers.0.attn.v"].bits) == (None, 8)
    found, wanted = bundle_logits(bundle, [5, 80, 9]), torch_logits(made.model, [5, 80, 9])
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


# Groups, strips, pictures, and how much text.

WIDE = {"hidden_size": 128, "intermediate_size": 320}


def gathered(folder: Path, **changes: int) -> ModelParts:
    made = save(folder, config("llama", num_hidden_layers=1, **changes))
    return recipe.gather_folder(made.folder, ExportOptions())


def test_groups_of_128_share_a_scale_where_they_divide_a_row(tmp_path: Path):
    made = save(tmp_path / "checkpoint", config("llama", **WIDE))
    bundle = export_to(
        made.folder, tmp_path / "bundle", precision="int4", group=128, calibrate=False,
        allow_drift=True,
    )  # fmt: skip
    sizes = {n: w.block_size for n, w in bundle.manifest.weights.items() if w.bits == 4}
    assert sizes["layers.0.mlp.gate_up"] == 128
    assert sizes["layers.0.mlp.down"] == 64  # 320 is no multiple of 128
    assert bundle.manifest.weights["layers.0.attn.qkv"].block_size == 32  # 8 bits
    found, wanted = bundle_logits(bundle, [5, 80, 9]), torch_logits(made.model, [5, 80, 9])
    assert np.abs(found - wanted).max() < 0.7 * np.abs(wanted).max()
    target = tmp_path / "target"
    target.mkdir()
    error = refused(made.folder, target, precision="int4", group=48)
    assert isinstance(error, ConfigError)
    assert "--group 48: one of 32, 64, 128" in str(error)


@pytest.mark.parametrize("group", [32, 128])
def test_wide_inputs_are_calibrated_strip_by_strip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
):
    parts = gathered(tmp_path / "checkpoint", **WIDE | {"intermediate_size": 384})
    assert parts.spec is not None
    assert parts.weights is not None
    monkeypatch.setattr(effort, "STRIP", 256)
    assert strips(384) == [(0, 256), (256, 384)]
    plan = PrecisionPlan(default="int4", group=group)
    found = calibrate(parts.spec, parts.weights, plan, range(2, 258), spill=Spill(tmp_path))
    name = "layers.0.mlp.down_proj.weight"
    blocks, matrix = found[name].unpacked(), parts.weights.get(name)
    assert blocks.block_size == group
    assert blocks.dequantize().shape == matrix.shape
    nearest = quantize_asymmetric(matrix, 4, group)
    rough = np.abs(nearest.dequantize() - matrix).mean()
    assert rough <= np.abs(blocks.dequantize() - matrix).mean() < 2 * rough


def test_rows_of_pictures_count_too(tmp_path: Path):
    parts = gathered(tmp_path / "checkpoint", **WIDE)
    assert parts.spec is not None
    assert parts.weights is not None
    rows = np.random.default_rng(0).normal(0, 3, (200, 128)).astype(np.float32)
    plan = PrecisionPlan(default="int4")
    without, with_rows = (
        calibrate(parts.spec, parts.weights, plan, range(2, 258), pictures, spill=Spill(tmp_path))
        for pictures in ([], [rows])
    )
    name = "layers.0.mlp.up_proj.weight"
    assert (without[name].unpacked().values != with_rows[name].unpacked().values).any()


def test_blocks_are_kept_on_disk_without_loss_and_without_a_name(tmp_path: Path):
    matrix, _ = layer()
    spill = Spill(tmp_path)
    made = [quantize_asymmetric(matrix, 4), quantize_symmetric(matrix, 4)]
    kept = [spill.keep(blocks) for blocks in made]
    assert list(tmp_path.iterdir()) == []
    for blocks, there in zip(made, kept, strict=True):
        back = there.unpacked()
        assert np.array_equal(back.values, blocks.values)
        assert np.array_equal(back.dequantize(), blocks.dequantize())


def shape(hidden: int, inner: int, layers: int, heads: int, kv: int) -> DecoderSpec:
    return DecoderSpec(
        hidden_size=hidden, intermediate_size=inner, num_layers=layers, num_heads=heads,
        num_kv_heads=kv, head_dim=hidden // heads, vocab_size=1000, max_positions=1000,
        norm_eps=1e-5, rope_theta=1e4, tied_head=True,
    )  # fmt: skip


def test_a_large_decoder_gets_less_text_and_a_huge_one_none():
    assert tokens_within(shape(576, 1536, 30, 9, 3)) == MOST_TOKENS  # SmolLM2-135M
    assert 1024 < tokens_within(shape(1536, 8960, 28, 12, 2)) < MOST_TOKENS  # Qwen2-1.5B
    assert tokens_within(shape(4096, 14336, 32, 32, 8)) == 0  # Llama-3-8B


def test_strips_are_whole_groups_that_cover_all_columns():
    for width in (64, 576, 1536, 4864, 8960):
        found = strips(width)
        assert [b for _, b in found[:-1]] == [a for a, _ in found[1:]]
        assert (found[0][0], found[-1][1]) == (0, width)
        assert all(a % 128 == 0 for a, _ in found)
