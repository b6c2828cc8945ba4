"""GGUF files, written here with the gguf package, read without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano.packages import DECODER
from edgevlm.runtime.model.load import load
from tests.export.tiny import (
    PROMPT,
    VOCAB,
    bundle_logits,
    config,
    export_to,
    ggml_rows,
    random_model,
    tokenizer,
    torch_greedy,
    torch_logits,
    with_weights,
    write_gguf,
)

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, one kv head, tied": (
        "llama",
        {"num_attention_heads": 8, "num_key_value_heads": 1, "tie_word_embeddings": True},
    ),
    "llama, 3 heads per kv head": ("llama", {"hidden_size": 96, "num_attention_heads": 6}),
    "llama, wide heads": ("llama", {"head_dim": 32}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32}),
}


def model_of(shape: str) -> Any:
    kind, changes = SHAPES[shape]
    return random_model(config(kind, **changes))


def ids_of(text: str) -> list[int]:
    return list(tokenizer().encode(text).ids)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"])
@pytest.mark.parametrize("shape", ["llama", "qwen2"])
def test_weights_read_back_as_gguf_dequantises_them(tmp_path: Path, shape: str, kind: str) -> None:
    model = model_of(shape)
    wanted = write_gguf(tmp_path / "m.gguf", model, kind)
    file = GgufFile(tmp_path / "m.gguf")
    for name, value in wanted.items():
        found = file.get(name.removeprefix("model."))
        assert found.dtype == np.float32
        assert np.array_equal(found, value), name
        assert file.shape(name.removeprefix("model.")) == value.shape


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_are_taken_over_without_loss(tmp_path: Path, shape: str, kind: str) -> None:
    model = model_of(shape)
    wanted = write_gguf(tmp_path / "m.gguf", model, kind)
    file = GgufFile(tmp_path / "m.gguf")
    matrices = {n: v for n, v in wanted.items() if v.ndim == 2}
    assert len(matrices) >= 15
    for name, value in matrices.items():
        blocks = file.blocks(name.removeprefix("model."))
        assert blocks is not None
        assert blocks.bits == int(kind[1])
        assert blocks.zeros is None
        assert np.array_equal(blocks.dequantize(), value), name


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_1", "Q5_0"])
def test_other_types_are_not_taken_over_as_blocks(tmp_path: Path, kind: str) -> None:
    write_gguf(tmp_path / "m.gguf", model_of("llama"), kind)
    assert GgufFile(tmp_path / "m.gguf").blocks("layers.0.self_attn.q_proj.weight") is None


def test_smollm2s_own_weights_read_as_gguf_dequantises_them() -> None:
    path = DECODER.locate()
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    file = GgufFile(path)
    names = {"embed_tokens": "token_embd", "layers.7.mlp.down_proj": "blk.7.ffn_down"}
    for name, stored in names.items():
        tensor = tensors[f"{stored}.weight"]
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(file.get(f"{name}.weight"), wanted)
        blocks = file.blocks(f"{name}.weight")
        assert blocks is None or np.array_equal(blocks.dequantize(), wanted)


@pytest.mark.parametrize("head_dim", [4, 16, 64])
def test_only_rotary_rows_are_reordered(tmp_path: Path, head_dim: int) -> None:
    settings = config("llama", head_dim=head_dim, num_hidden_layers=1)
    model = random_model(settings)
    write_gguf(tmp_path / "m.gguf", model)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    raw = {t.name: np.asarray(t.data) for t in reader.tensors}
    file = GgufFile(tmp_path / "m.gguf")
    q = file.get("layers.0.self_attn.q_proj.weight")
    assert not np.array_equal(q, raw["blk.0.attn_q.weight"])
    assert np.array_equal(ggml_rows(q, head_dim), raw["blk.0.attn_q.weight"])
    first, second = q[0], q[head_dim // 2]  # the two rows of the first pair
    assert np.array_equal(np.stack([first, second]), raw["blk.0.attn_q.weight"][:2])
    v = file.get("layers.0.self_attn.v_proj.weight")
    assert np.array_equal(v, raw["blk.0.attn_v.weight"])


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("llama", "F32"),
        ("llama", "F16"),
        ("llama", "Q8_0"),
        ("llama", "Q4_0"),
        ("llama, 3 heads per kv head", "Q8_0"),
        ("qwen2", "Q8_0"),
    ],
)
def test_a_gguf_file_gives_the_logits_of_transformers(
    tmp_path: Path, shape: str, kind: str
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model_of(shape), kind)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).eval()
    ids = ids_of(PROMPT)
    bundle = export_to(path, tmp_path / "b")
    error = np.abs(bundle_logits(bundle, ids) - torch_logits(loaded, ids)).max()
    print(f"max logit error {error:.2g}")
    assert error < 1e-4


@pytest.mark.parametrize(("shape", "kind"), [(s, "Q8_0") for s in SHAPES] + [("qwen2", "F16")])
def test_a_gguf_file_gives_the_logits_of_the_model_it_was_written_from(
    tmp_path: Path, shape: str, kind: str
) -> None:
    path = tmp_path / "tiny.gguf"
    model = model_of(shape)
    model = with_weights(model, write_gguf(path, model, kind))
    ids = ids_of(PROMPT)
    bundle = export_to(path, tmp_path / "b")
    wanted = torch_logits(model, ids)
    assert np.abs(bundle_logits(bundle, ids) - wanted).max() < 1e-4
    with load(bundle.root, threads=2, spin=False) as running:
        answer = running.ask(None, PROMPT, max_tokens=32)
    rendered = f"<|im_start|>{PROMPT}<|im_end|>"
    assert list(answer.token_ids) == torch_greedy(model, ids_of(rendered), 32)


def test_an_int8_bundle_of_a_q8_0_file_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    model = model_of("llama")
    wanted = write_gguf(path, model, "Q8_0")
    bundle = export_to(path, tmp_path / "b", precision="int8", allow_drift=True)
    stacks = {
        "layers.1.attn.qkv": [f"layers.1.self_attn.{p}_proj" for p in "qkv"],
        "layers.1.mlp.gate_up": ["layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"],
        "layers.0.mlp.down": ["layers.0.mlp.down_proj"],
        "embedding": ["embed_tokens"],
    }
    for label, names in stacks.items():
        entry = bundle.manifest.weights[label]
        assert entry.scales is not None
        values = bundle.array(entry.values).astype(np.float32) - 128
        found = values * bundle.array(entry.scales)[:, :, None]
        exact = np.concatenate([wanted[f"model.{n}.weight"] for n in names])
        assert np.array_equal(found.reshape(exact.shape), exact), label


def test_a_symmetric_int4_bundle_of_a_q4_0_file_keeps_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    model = model_of("llama")
    wanted = write_gguf(path, model, "Q4_0")["model.layers.0.mlp.down_proj.weight"]
    bundle = export_to(path, tmp_path / "b", precision="int4", symmetric=True, allow_drift=True)
    entry = bundle.manifest.weights["layers.0.mlp.down"]
    assert entry.zeros is None
    assert entry.scales is not None
    packed = bundle.array(entry.values)
    values = np.stack([packed & 15, packed >> 4], -1).reshape(*entry.scales.shape, 32)
    found = (values.astype(np.float32) - 8) * bundle.array(entry.scales)[:, :, None]
    assert np.array_equal(found.reshape(wanted.shape), wanted)


def test_the_metadata_become_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    settings = config("llama", rms_norm_eps=1e-5, max_position_embeddings=256)
    settings.rope_parameters["rope_theta"] = 5000.0
    write_gguf(path, random_model(settings), general__license="mit")
    manifest = export_to(path, tmp_path / "b").manifest
    assert (manifest.name, manifest.family, manifest.source.license) == ("tiny", "llama", "mit")
    assert manifest.decoder.norm_eps == pytest.approx(1e-5, rel=1e-6)
    assert manifest.decoder.rope_theta == 5000.0
    assert manifest.kv.capacity == 256
    assert manifest.decoder.vocab_size == VOCAB
    assert manifest.prompt.stop_token_ids == (1,)
    assert manifest.prompt.bos_token_id == 0


def test_linear_rope_scaling_is_read(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    model = random_model(config("llama", rope_parameters=rope))
    path = tmp_path / "tiny.gguf"
    scaling = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}
    write_gguf(path, model, **scaling)
    ids = ids_of(PROMPT)
    found = bundle_logits(export_to(path, tmp_path / "b"), ids)
    assert np.abs(found - torch_logits(model, ids)).max() < 1e-4
