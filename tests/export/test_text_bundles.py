"""What of a text model's checkpoint comes to lie in its bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edgevlm.bundle import open_bundle
from edgevlm.registry import FAMILIES
from edgevlm.runtime.model.embedding import EmbeddingTable
from tests.export.test_text_models import ids_of
from tests.export.tiny import (
    PROMPT,
    bundle_logits,
    config,
    export_to,
    save,
    torch_logits,
)


def test_shards_and_one_file_give_the_same_weights(tmp_path: Path) -> None:
    whole = save(tmp_path / "m" / "c", config("llama"), seed=3)
    shards = save(tmp_path / "s" / "c", config("llama"), seed=3, max_shard_size="60KB")
    assert len(list(shards.folder.glob("*.safetensors"))) > 2
    ids = ids_of(PROMPT)
    found = bundle_logits(export_to(shards.folder, tmp_path / "b"), ids)
    assert np.abs(found - torch_logits(shards.model, ids)).max() < 1e-4
    one = bundle_logits(export_to(whole.folder, tmp_path / "b1"), ids)
    assert np.array_equal(found, one)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_are_read_without_loss(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    checkpoint = save(tmp_path / "c", config("qwen2"))
    checkpoint.model.to(dtype).save_pretrained(checkpoint.folder)
    wanted = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, dtype=torch.float32
    ).eval()
    ids = ids_of(PROMPT)
    found = bundle_logits(export_to(checkpoint.folder, tmp_path / "b"), ids)
    assert np.abs(found - torch_logits(wanted, ids)).max() < 1e-4


def test_a_width_without_whole_blocks_stays_in_fp32_and_is_listed(tmp_path: Path) -> None:
    settings = config("llama", hidden_size=48, intermediate_size=64, num_hidden_layers=2)
    checkpoint = save(tmp_path / "c", settings)
    bundle = export_to(checkpoint.folder, tmp_path / "b", precision="int4", allow_drift=True)
    exceptions = bundle.manifest.graphs["decoder"].exceptions
    layers = {f"layers.{i}." for i in range(2)}
    narrow = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    narrow |= {"mlp.gate_proj", "mlp.up_proj"}
    wanted = {f"{layer}{name}" for layer in layers for name in narrow} | {"lm_head"}
    assert exceptions == dict.fromkeys(wanted, "fp32")
    blocks = {n for n, w in bundle.manifest.weights.items() if w.layout == "blocks"}
    assert blocks == {f"layers.{i}.{n}" for i in range(2) for n in ("attn.o", "mlp.down")}
    ids = ids_of(PROMPT)
    found, exact = bundle_logits(bundle, ids), torch_logits(checkpoint.model, ids)
    assert 0 < np.abs(found - exact).max() < 3 * exact.std()


def test_exceptions_name_every_weight_of_another_precision(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    bundle = export_to(
        checkpoint.folder,
        tmp_path / "b",
        precision="int4",
        allow_drift=True,
        overrides={"*.mlp.down_proj": "fp32"},
    )
    attention = [f"layers.0.self_attn.{p}_proj" for p in "qkv"]
    assert bundle.manifest.graphs["decoder"].exceptions == {
        **dict.fromkeys(attention, "int8"),
        "lm_head": "int8",
        "layers.0.mlp.down_proj": "fp32",
    }


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.01), ("int8", 0.1), ("int4", 0.6)])
def test_a_lower_precision_stays_near_transformers(
    tmp_path: Path,
    precision: str,
    limit: float,
) -> None:
    checkpoint = save(tmp_path / "c", config("qwen3", hidden_size=128, intermediate_size=256))
    bundle = export_to(checkpoint.folder, tmp_path / "b", precision=precision, allow_drift=True)
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    error = float(np.sqrt(np.square(bundle_logits(bundle, ids) - wanted).mean()) / wanted.std())
    print(f"{precision}: relative rms error {error:.2g}")
    assert 0 < error < limit


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_embedding_rows_are_those_of_the_checkpoint(
    tmp_path: Path, tied: bool, precision: str
) -> None:
    checkpoint = save(tmp_path / "c", config("llama", tie_word_embeddings=tied))
    bundle = export_to(checkpoint.folder, tmp_path / "b", precision=precision, allow_drift=True)
    exact = checkpoint.model.model.embed_tokens.weight.detach().numpy()
    rows = EmbeddingTable(bundle).rows(range(len(exact)))
    assert rows.dtype == np.float32
    peaks = np.abs(exact.reshape(len(exact), -1, 32)).max(-1)
    steps = {"fp32": 0.0, "fp16": 2.0**-11}.get(precision, 1 / 127)
    allowed = np.repeat(peaks, 32, axis=1) * steps
    assert np.all(np.abs(rows - exact) <= allowed)


def test_a_tied_head_lies_in_the_bundle_once(tmp_path: Path) -> None:
    tied = save(tmp_path / "t", config("llama", tie_word_embeddings=True))
    free = save(tmp_path / "f", config("llama"))
    sizes = {
        c.folder.name: export_to(c.folder, tmp_path / f"b{c.folder.name}")
        .path("decoder.onnx.data")
        .stat()
        .st_size
        for c in (tied, free)
    }
    table = 300 * 64 * 4
    assert table <= sizes["f"] - sizes["t"] < table + 4096


def test_stop_tokens_come_from_the_generation_config_first(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    path = checkpoint.folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [7, 1], "bos_token_id": 0}))
    bundle = export_to(checkpoint.folder, tmp_path / "b")
    assert bundle.manifest.prompt.stop_token_ids == (7, 1)
    assert bundle.manifest.prompt.bos_token_id == 0


def test_the_checkpoints_licence_goes_with_it(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    (checkpoint.folder / "LICENSE.txt").write_text("Do what is right.\n")
    bundle = export_to(checkpoint.folder, tmp_path / "b")
    assert bundle.manifest.licenses == ("LICENSES/LICENSE.txt",)
    assert bundle.read_text("LICENSES/LICENSE.txt") == "Do what is right.\n"


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    checkpoint = save(tmp_path / "model", config("qwen2"))
    twin = tmp_path / "elsewhere" / "model"
    shutil.copytree(checkpoint.folder, twin)
    options: dict[str, Any] = {"precision": precision, "allow_drift": True}
    first = export_to(checkpoint.folder, tmp_path / "one", **options)
    second = export_to(twin, tmp_path / "deeper" / "two", **options)
    names = sorted(p.relative_to(first.root) for p in first.root.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(second.root) for p in second.root.rglob("*") if p.is_file()
    )
    assert len(names) >= 10
    for name in names:
        assert (first.root / name).read_bytes() == (second.root / name).read_bytes(), name
    assert first.id == second.id


def test_the_same_checkpoint_gives_the_same_archive(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "model", config("llama", num_hidden_layers=1))
    for name in ("a.evlm", "b.evlm"):
        export_to(checkpoint.folder, tmp_path / name)
    assert (tmp_path / "a.evlm").read_bytes() == (tmp_path / "b.evlm").read_bytes()
    opened = open_bundle(tmp_path / "a.evlm")
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    assert np.abs(bundle_logits(opened, ids) - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", transformers.LlamaConfig),
        ("qwen2", transformers.Qwen2Config),
        ("qwen3", transformers.Qwen3Config),
    ],
)
def test_a_config_without_a_head_width_means_what_transformers_takes(
    name: str, config: Callable[..., Any]
) -> None:
    sizes = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8}
    raw = {**sizes, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    assert "head_dim" not in raw
    full = config(**raw)
    wanted = getattr(full, "head_dim", None) or full.hidden_size // full.num_attention_heads
    assert FAMILIES.resolve(name).spec(raw).head_dim == wanted
