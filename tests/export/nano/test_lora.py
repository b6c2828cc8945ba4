"""nano's adapter, merged: against torch, and bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevlm.errors import CheckpointError
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano.lora import FILE, AdaptedWeights
from edgevlm.export.nano.packages import DECODER
from tests.export.nano.trained import ALPHA, MODULES, RANK, random_lora, write_lora

PREFIX = "base_model.model.model."


@pytest.fixture(scope="module")
def base() -> GgufFile:
    return GgufFile(DECODER.locate())


def test_every_matrix_is_merged_as_peft_merges_it(base: GgufFile, tmp_path: Path):
    """Source: peft's ``LoraLayer.get_delta_weight``, ``(B @ A) * (alpha / r)``."""
    tensors = random_lora(base.spec, layers=1)
    write_lora(tmp_path, tensors)
    merged = AdaptedWeights(base, tmp_path)
    for module in MODULES:
        name = f"layers.0.{module}.weight"
        up, down = (tensors[f"{PREFIX}layers.0.{module}.lora_{k}.weight"].float() for k in "BA")
        wanted = torch.from_numpy(np.array(base.get(name))) + (up @ down) * (ALPHA / RANK)
        assert np.abs(merged.get(name) - wanted.numpy()).max() < 1e-6
        assert np.abs(merged.get(name) - base.get(name)).max() > 1e-3
        assert merged.blocks(name) is None
        assert merged.shape(name) == base.shape(name) == wanted.shape
    for name in ("layers.1.mlp.up_proj.weight", "embed_tokens.weight", "norm.weight"):
        assert merged.has(name)
        assert np.array_equal(merged.get(name), base.get(name))


def without_b(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[f"{PREFIX}layers.0.mlp.up_proj.lora_B.weight"]


def layer_31(tensors: dict[str, torch.Tensor]) -> None:
    for kind in "AB":
        moved = tensors.pop(f"{PREFIX}layers.0.mlp.up_proj.lora_{kind}.weight")
        tensors[f"{PREFIX}layers.31.mlp.up_proj.lora_{kind}.weight"] = moved


def wider(tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"{PREFIX}layers.0.self_attn.k_proj.lora_B.weight"] = torch.zeros((576, RANK))


def dora(tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"{PREFIX}layers.0.self_attn.k_proj.lora_magnitude_vector"] = torch.zeros(192)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_b, "layers.0.mlp.up_proj has only lora_A"),
        (layer_31, "changes layers.31.mlp.up_proj.weight, which the decoder does not have"),
        (wider, r"k_proj.lora_B.weight has the shape \(576, 4\), not \(192, 4\)"),
        (dora, "lora_magnitude_vector is no part of a LoRA"),
    ],
)
def test_an_adapter_of_something_else_is_refused_by_name(
    base: GgufFile, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], says: str
):
    tensors = random_lora(base.spec, layers=1)
    change(tensors)
    write_lora(tmp_path, tensors)
    with pytest.raises(CheckpointError, match=says):
        AdaptedWeights(base, tmp_path)


@pytest.mark.parametrize(
    "metadata", [{}, {"r": "4"}, {"r": "4", "lora_alpha": "much"}, {"r": "0", "lora_alpha": "8"}]
)
def test_an_adapter_that_does_not_say_its_scale_is_refused(
    base: GgufFile, tmp_path: Path, metadata: dict[str, str]
):
    from safetensors.torch import save_file

    save_file(random_lora(base.spec, layers=1), tmp_path / FILE, metadata=metadata)
    with pytest.raises(CheckpointError, match="lora_alpha"):
        AdaptedWeights(base, tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match="which nano was trained to, does not exist"):
        AdaptedWeights(base, tmp_path)
