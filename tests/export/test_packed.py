"""AWQ and GPTQ checkpoints in 4 bits, against transformers with the same weights unpacked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgevlm.bundle import Bundle
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint as Folder
from edgevlm.runtime.model.load import load
from tests.export.packing import Rounded, change, pack, settings
from tests.export.tiny import (
    PROMPT,
    Checkpoint,
    Float32,
    bundle_logits,
    config,
    export_to,
    refused,
    save,
    tokenizer,
    torch_greedy,
    torch_logits,
)

WIDE = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2}
KINDS = [("gptq", 32), ("gptq", -1), ("gptq_v2", 16), ("awq", 32), ("awq", 16)]
STACKS = {
    "layers.0.attn.qkv": ["q_proj", "k_proj", "v_proj"],
    "layers.1.attn.o": ["o_proj"],
    "layers.0.mlp.gate_up": ["gate_proj", "up_proj"],
    "layers.1.mlp.down": ["down_proj"],
}


def make(
    folder: Path, method: str, group: int, **how: Any
) -> tuple[Checkpoint, dict[str, Rounded]]:
    made = save(folder, config("llama", **WIDE))
    return made, pack(made, method, group, **how)


@pytest.mark.parametrize(("method", "group"), KINDS)
def test_logits_and_tokens_are_those_of_the_unpacked_weights(
    tmp_path: Path, method: str, group: int
) -> None:
    made, _ = make(tmp_path / "model", method, group)
    bundle = export_to(made.folder, tmp_path / "bundle")
    ids = tokenizer().encode(PROMPT).ids
    assert np.abs(bundle_logits(bundle, ids) - torch_logits(made.model, ids)).max() < 1e-3
    with load(bundle.root, threads=2, spin=False) as running:
        answer = running.ask(None, PROMPT, max_tokens=16)
    assert list(answer.token_ids) == torch_greedy(made.model, ids, 16)


def blocks_of(bundle: Bundle, label: str) -> Float32:
    """A matrix as the graph multiplies with it, read by the manifest alone."""
    entry = bundle.manifest.weights[label]
    assert entry.bits == 4
    assert entry.scales is not None
    packed = bundle.array(entry.values)
    values = np.stack([packed & 15, packed >> 4], -1).reshape(*entry.scales.shape, -1)
    assert values.shape[2] == entry.block_size
    zeros = np.full(entry.scales.shape, 8, np.uint8)
    if entry.zeros is not None:
        raw = bundle.array(entry.zeros)
        zeros = np.stack([raw & 15, raw >> 4], -1).reshape(len(raw), -1)[:, : zeros.shape[1]]
    centred = values.astype(np.float32) - zeros[:, :, None]
    return (centred * bundle.array(entry.scales)[:, :, None]).reshape(len(values), -1)


def wanted(packed: dict[str, Rounded], label: str) -> Float32:
    layer = label.split(".")[1]
    return np.concatenate(
        [
            found.weight
            for name in STACKS[label]
            for module, found in packed.items()
            if f".{layer}." in module and module.endswith(name)
        ]
    )


@pytest.mark.parametrize(("method", "group"), KINDS)
def test_an_int4_bundle_holds_the_same_blocks(tmp_path: Path, method: str, group: int) -> None:
    made, packed = make(tmp_path / "model", method, group)
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4", calibrate=True)
    assert bundle.manifest.graphs["decoder"].notes == ("4-bit weights as the checkpoint has them",)
    for label in STACKS:
        assert np.array_equal(blocks_of(bundle, label), wanted(packed, label)), label
    exceptions = bundle.manifest.graphs["decoder"].exceptions
    assert exceptions == {"lm_head": "int8"}
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.passed
    size = bundle.manifest.weights["layers.0.mlp.gate_up"].block_size
    assert size == (32 if group == -1 else group)


def test_groups_that_are_no_power_of_two_become_smaller_blocks(tmp_path: Path) -> None:
    made = save(tmp_path / "model", config("llama", **WIDE, num_attention_heads=6, head_dim=16))
    packed = pack(made, "gptq", 96)
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4")
    for label in STACKS:
        assert bundle.manifest.weights[label].block_size == 32
        assert np.array_equal(blocks_of(bundle, label), wanted(packed, label)), label


def test_zero_points_in_the_middle_make_a_symmetric_bundle(tmp_path: Path) -> None:
    made, packed = make(tmp_path / "model", "gptq", 32, symmetric=True)
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4", symmetric=True)
    for label in STACKS:
        assert bundle.manifest.weights[label].zeros is None
        assert np.array_equal(blocks_of(bundle, label), wanted(packed, label)), label


def test_other_zero_points_are_rounded_anew_for_a_symmetric_bundle(tmp_path: Path) -> None:
    made, packed = make(tmp_path / "model", "awq", 32)
    bundle = export_to(
        made.folder, tmp_path / "bundle", precision="int4", symmetric=True, allow_drift=True
    )
    entry = bundle.manifest.weights["layers.1.mlp.down"]
    assert entry.zeros is None
    assert not np.array_equal(
        blocks_of(bundle, "layers.1.mlp.down"), wanted(packed, "layers.1.mlp.down")
    )


def test_a_stack_that_is_packed_in_part_is_rounded_anew(tmp_path: Path) -> None:
    made, packed = make(tmp_path / "model", "awq", 16, plain="up_proj")
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4", allow_drift=True)
    assert bundle.manifest.weights["layers.0.mlp.gate_up"].block_size == 32
    assert bundle.manifest.weights["layers.1.mlp.down"].block_size == 16
    assert np.array_equal(
        blocks_of(bundle, "layers.0.attn.qkv"), wanted(packed, "layers.0.attn.qkv")
    )


def test_in_8_bits_the_gates_hold(tmp_path: Path) -> None:
    made, _ = make(tmp_path / "model", "awq", 32)
    assert export_to(made.folder, tmp_path / "bundle", precision="int8").manifest.parity.passed


def test_the_older_file_of_settings_is_read_too(tmp_path: Path) -> None:
    made, packed = make(tmp_path / "model", "gptq", 32)
    made.change_config(drop=("quantization_config",))
    old = {"bits": 4, "group_size": 32, "desc_act": False}
    (made.folder / "quantize_config.json").write_text(json.dumps(old))
    bundle = export_to(made.folder, tmp_path / "bundle", precision="int4")
    assert np.array_equal(blocks_of(bundle, "layers.1.attn.o"), wanted(packed, "layers.1.attn.o"))


# What is not read.


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "model"
    make(folder, "gptq", 32)
    return folder


def said(**more: Any) -> Callable[[Path], None]:
    """Other settings in config.json."""
    method = more.pop("method", "gptq")
    return lambda f: Checkpoint(f, None).change_config(
        quantization_config=settings(method, 32, **more)
    )


IN, OUT = 192, 96  # of down_proj
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "bitsandbytes": (said(quant_method="bitsandbytes"), "quantised with 'bitsandbytes'"),
    "fp8": (said(quant_method="fp8"), "quantised with 'fp8', which is not read"),
    "compressed-tensors": (said(quant_method="compressed-tensors"), "'compressed-tensors'"),
    "no method": (lambda f: Checkpoint(f, None).change_config(quantization_config={"bits": 4}),
                  "quantised with 'none'"),
    "8 bits": (said(bits=8), "gptq in 8 bits, layout 'gptq'; 4 bits in the layout gptq or"),
    "3 bits": (said(bits=3), "in 3 bits"),
    "marlin": (said(checkpoint_format="marlin"), "layout 'marlin'"),
    "an older marlin": (said(is_marlin_format=True), "layout 'marlin'"),
    "gemv": (said(method="awq", version="GEMV"), "layout 'gemv'; 4 bits in the layout gemm"),
    "llm-awq": (said(method="awq", backend="llm-awq"), "layout 'llm-awq'"),
    "act-order": (
        lambda f: change(f, down_proj__g_idx=np.arange(IN, dtype=np.int32)[::-1] // 32),
        "down_proj was quantised in the order of its activations"),
    "zero points of -1": (
        lambda f: change(f, down_proj__qzeros=np.full((IN // 32, OUT // 8), -1, np.int32)),
        "zero points of model.layers.0.mlp.down_proj are stored as 15"),
    "groups of 8": (
        lambda f: change(f, down_proj__scales=np.ones((IN // 8, OUT), np.float16),
                         down_proj__qzeros=np.zeros((IN // 8, OUT // 8), np.int32),
                         down_proj__g_idx=(np.arange(IN) // 8).astype(np.int32)),
        "has groups of 8 weights; only multiples of 16"),
    "no zero points": (lambda f: change(f, down_proj__qzeros=None), "lacks its qzeros"),
    "no scales": (lambda f: change(f, down_proj__scales=None), "lacks its scales"),
    "scales of another matrix": (
        lambda f: change(f, down_proj__scales=np.ones((IN // 32, OUT + 8), np.float16)),
        "the parts of model.layers.0.mlp.down_proj do not fit together"),
    "groups that leave a rest": (
        lambda f: change(f, down_proj__scales=np.ones((5, OUT), np.float16),
                         down_proj__qzeros=np.zeros((5, OUT // 8), np.int32)),
        "do not fit together"),
    "scales that are none": (
        lambda f: change(f, down_proj__scales=np.full((IN // 32, OUT), np.nan, np.float16)),
        "down_proj.scales holds values that are not finite"),
    "words that are floats": (
        lambda f: change(f, down_proj__qweight=np.zeros((IN // 8, OUT), np.float32)),
        "down_proj.qweight has the dtype F32 and not I32"),
    "a matrix of another shape": (
        lambda f: change(f, down_proj__qweight=np.zeros((IN // 8, OUT + 8), np.int32)),
        "down_proj.weight has the shape (104, 192); the configuration asks (96, 192)"),
    "nothing packed": (lambda f: change(f, qweight=None), "no tensor is a qweight"),
    "a matrix that is no matrix": (
        lambda f: change(f, down_proj__qweight=np.zeros(8, np.int32)),
        "down_proj.qweight has the shape (8,)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_cannot_be_laid_out_without_loss_is_refused(
    pristine: Path, tmp_path: Path, kind: str
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "model"))
    spoil, says = REFUSED[kind]
    spoil(folder)
    target = tmp_path / "target"
    target.mkdir()
    error = refused(folder, target, precision="int4", allow_drift=True)
    assert isinstance(error, CheckpointError)
    assert says in str(error)


def test_an_adapter_goes_onto_packed_weights(tmp_path: Path) -> None:
    made, packed = make(tmp_path / "model", "gptq", 32)
    folder, random = tmp_path / "adapter", np.random.default_rng(0)
    folder.mkdir()
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    down, up = (random.normal(size=s).astype(np.float32) for s in ((2, 64), (96, 2)))
    module = "model.layers.0.self_attn.o_proj"
    parts = {f"base_model.model.{module}.lora_{k}.weight": v for k, v in (("A", down), ("B", up))}
    save_file(parts, folder / "adapter_model.safetensors")
    tensors = Folder(made.folder, folder).tensors
    merged = packed[module].weight + 3 * up @ down
    assert np.allclose(tensors.get(f"{module}.weight"), merged, atol=1e-5)
    assert tensors.blocks(f"{module}.weight") is None
    assert tensors.blocks("model.layers.1.self_attn.o_proj.weight") is not None
