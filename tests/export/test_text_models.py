"""Tiny random models of every family, exported and run, against transformers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.export.decoder.rope import rope_tables
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.recipe import gather_folder
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.runtime.model.kv_cache import CHUNK
from edgevlm.runtime.model.load import load
from tests.export.tiny import (
    PROMPT,
    Checkpoint,
    bundle_logits,
    config,
    decoder,
    export_to,
    save,
    tokenizer,
    torch_greedy,
    torch_logits,
)

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CALM = {"initializer_range": 0.1}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, one kv head per head": ("llama", {"num_key_value_heads": 4}),
    "llama, 3 heads per kv head": (
        "llama",
        {"hidden_size": 96, "num_attention_heads": 6, "num_hidden_layers": 3},
    ),
    "llama, 8 heads per kv head": ("llama", {"num_attention_heads": 8, "num_key_value_heads": 1}),
    "llama, wide heads and a tied head": ("llama", {"head_dim": 32, "tie_word_embeddings": True}),
    "llama, biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear rope": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}},
    ),
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "llama, another rope base and eps": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 130.0}, "rms_norm_eps": 1e-2},
    ),
    "llama, a width that no block divides": (
        "llama",
        {"hidden_size": 60, "intermediate_size": 100},
    ),
    "qwen2, 3 heads per kv head, tied": (
        "qwen2",
        {"hidden_size": 96, "num_attention_heads": 6, "tie_word_embeddings": True},
    ),
    "qwen2, 3 layers, untied": ("qwen2", {"num_hidden_layers": 3, "num_key_value_heads": 1}),
    "qwen3, 8 heads per kv head, wide": (
        "qwen3",
        {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32},
    ),
    "qwen3, biases, tied": ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    # Small weights: rounding differences are not blown up from layer to layer.
    "llama, calm": ("llama", {"hidden_size": 96, "num_hidden_layers": 3, **CALM}),
    "qwen3, calm": ("qwen3", {"num_attention_heads": 8, "num_key_value_heads": 1, **CALM}),
}
Made = tuple[Checkpoint, Bundle]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Checkpoint and fp32 bundle of one of MODELS, made once."""
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            folder = tmp_path_factory.mktemp("text")
            kind, changes = MODELS[name]
            checkpoint = save(folder / "checkpoint", config(kind, **changes), seed=len(known))
            known[name] = checkpoint, export_to(checkpoint.folder, folder / "bundle")
        return known[name]

    return make


def ids_of(text: str) -> list[int]:
    return list(tokenizer().encode(text).ids)


@pytest.mark.parametrize("name", MODELS)
def test_logits_at_every_prompt_position_equal_transformers(
    made: Callable[[str], Made], name: str
) -> None:
    checkpoint, bundle = made(name)
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    error = float(np.abs(bundle_logits(bundle, ids) - wanted).max())
    print(f"max logit error {error:.2g}")
    assert wanted.std() > 0.5, "logits this flat would agree by chance"
    assert error < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_32_greedy_tokens_are_those_of_generate(made: Callable[[str], Made], name: str) -> None:
    checkpoint, bundle = made(name)
    wanted = torch_greedy(checkpoint.model, ids_of(PROMPT), 32)
    with load(bundle.root, threads=2, spin=False) as model:
        answer = model.ask(None, PROMPT, max_tokens=32)
    assert list(answer.token_ids) == wanted
    assert len(set(wanted)) > 3, "a model that repeats itself tells little"
    assert len(wanted) == 32 or wanted[-1] == checkpoint.model.config.eos_token_id


@pytest.mark.parametrize("name", MODELS)
def test_the_numpy_reference_equals_transformers_in_pieces_too(
    made: Callable[[str], Made], name: str
) -> None:
    checkpoint, _ = made(name)
    parts = gather_folder(checkpoint.folder, ExportOptions())
    reference = NumpyDecoder(parts.spec, parts.weights)
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    whole = reference.forward(reference.embed(ids))
    assert np.abs(whole - wanted).max() < 1e-4
    reference.reset()
    cuts = [0, 1, 2, 9, 30, len(ids)]
    pieces = [reference.forward(reference.embed(ids[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.abs(np.concatenate(pieces) - wanted).max() < 1e-4


@pytest.mark.parametrize("kind", ["linear", "llama3"])
def test_rope_keys_of_older_checkpoints_mean_the_same(tmp_path: Path, kind: str) -> None:
    """Before transformers 5, config.json said rope_theta and rope_scaling."""
    checkpoint = save(tmp_path / "c", config("llama"))
    rope = {k: v for k, v in LLAMA3.items() if k not in ("rope_type", "rope_theta")}
    if kind == "linear":
        rope = {"factor": 4.0}
    name = "type" if kind == "linear" else "rope_type"
    checkpoint.change_config(
        drop=("rope_parameters",), rope_theta=700.0, rope_scaling={name: kind, **rope}
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, dtype=torch.float32
    ).eval()
    ids = ids_of(PROMPT)
    wanted = torch_logits(model, ids)
    assert np.abs(wanted - torch_logits(checkpoint.model, ids)).max() > 0.1
    bundle = export_to(checkpoint.folder, tmp_path / "b")
    assert np.abs(bundle_logits(bundle, ids) - wanted).max() < 1e-4


@pytest.mark.parametrize("kind", ["default", "linear", "llama3"])
def test_rope_tables_equal_those_of_transformers_up_to_the_last_position(kind: str) -> None:
    rope = {"default": {"rope_type": "default"}, "linear": {"rope_type": "linear", "factor": 3.0}}
    settings = config(
        "llama", rope_parameters={"rope_theta": 10000.0, **rope.get(kind, LLAMA3)}, head_dim=64
    )
    embedding = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(settings)
    positions = torch.arange(2048)[None]
    cos, sin = embedding(torch.zeros(1, 1, 1), positions)
    scaling = settings.rope_parameters
    spec = DecoderSpec(
        hidden_size=64,
        intermediate_size=64,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=64,
        vocab_size=10,
        max_positions=2048,
        norm_eps=1e-6,
        rope_theta=10000.0,
        tied_head=False,
        rope_scaling=None
        if kind == "default"
        else {
            "type": kind,
            "factor": scaling["factor"],
            **({"original_max_positions": 64} if kind == "llama3" else {}),
        },
    )
    ours = rope_tables(spec, 2048)
    # torch multiplies float32 frequencies by positions, so that angles are off by 2048 ulp
    assert np.abs(ours[0] - cos[0, :, :32].numpy()).max() < 3e-4
    assert np.abs(ours[1] - sin[0, :, :32].numpy()).max() < 3e-4
    assert np.abs(ours[0][:64] - cos[0, :64, :32].numpy()).max() < 1e-5


@pytest.mark.parametrize("name", ["llama, calm", "qwen3, calm"])
@pytest.mark.parametrize("split", [[1], [7], [16, 1, 1, 30], [40, 3]])
def test_prefill_in_pieces_gives_the_logits_of_prefill_at_once(
    made: Callable[[str], Made], name: str, split: list[int]
) -> None:
    _, bundle = made(name)
    ids = ids_of(PROMPT)
    with decoder(bundle) as (cached, table):
        whole = cached.append(table.rows(ids), logits=len(ids)).copy()
        cached.rewind(0)
        found, at, turn = [], 0, 0
        while at < len(ids):
            size = min(split[turn % len(split)], len(ids) - at)
            found.append(cached.append(table.rows(ids[at : at + size]), logits=size).copy())
            at, turn = at + size, turn + 1
        assert cached.length == len(ids)
    assert np.abs(np.concatenate(found) - whole).max() < 1e-5


def test_after_a_rewind_nothing_is_left_of_what_was_there(made: Callable[[str], Made]) -> None:
    _, bundle = made("llama, calm")
    ids, other = ids_of(PROMPT), ids_of("<|im_end|>Something else entirely, 1234567890!")
    with decoder(bundle) as (cached, table):
        clean = cached.append(table.rows(ids), logits=len(ids)).copy()
        for keep in (0, 1, 10, len(ids) - 1):
            cached.rewind(keep)
            cached.append(table.rows(other))
            cached.rewind(keep)
            count = len(ids) - keep
            again = cached.append(table.rows(ids[keep:]), logits=count)
            assert np.abs(again - clean[keep:]).max() < 1e-5, keep
        with pytest.raises(ContractError, match="cannot rewind"):
            cached.rewind(len(ids) + 1)


def test_a_prompt_over_one_chunk_equals_transformers(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c", config("llama", max_position_embeddings=2048))
    bundle = export_to(checkpoint.folder, tmp_path / "b")
    ids = (ids_of(PROMPT) * 40)[: 2 * CHUNK + 77]
    wanted = torch_logits(checkpoint.model, ids)
    with decoder(bundle) as (cached, table):
        for count in (1, 5, CHUNK):
            cached.rewind(0)
            found = cached.append(table.rows(ids), logits=count)
            # torch's float32 angles are off by 1e-4 rad at the thousandth position
            assert np.abs(found - wanted[-count:]).max() < 5e-4
        assert cached.length == len(ids)


def test_the_context_holds_exactly_what_the_manifest_says(made: Callable[[str], Made]) -> None:
    checkpoint, bundle = made("llama, one kv head per head")
    capacity = bundle.manifest.kv.capacity
    assert capacity == checkpoint.model.config.max_position_embeddings == 512
    ids = (ids_of(PROMPT) * 20)[:capacity]
    with decoder(bundle) as (cached, table):
        last = cached.append(table.rows(ids)).copy()
        with pytest.raises(ContextOverflow, match="513 tokens"):
            cached.append(table.rows(ids[:1]))
        assert cached.length == capacity
    assert np.abs(last[0] - torch_logits(checkpoint.model, ids)[-1]).max() < 1e-4


def test_a_shorter_context_changes_no_logits(tmp_path: Path, made: Callable[[str], Made]) -> None:
    checkpoint, bundle = made("llama, llama3 rope")
    short = export_to(checkpoint.folder, tmp_path / "b", max_context=128)
    assert short.manifest.kv.capacity == 128
    ids = ids_of(PROMPT)
    assert np.abs(bundle_logits(short, ids) - bundle_logits(bundle, ids)).max() < 1e-5


def test_the_manifest_describes_the_checkpoint(made: Callable[[str], Made]) -> None:
    checkpoint, bundle = made("qwen3, 8 heads per kv head, wide")
    manifest, settings = bundle.manifest, checkpoint.model.config
    assert (manifest.family, manifest.name, manifest.precision) == ("qwen3", "checkpoint", "fp32")
    spec = manifest.decoder
    assert spec.head_dim == 32
    assert spec.qk_norm
    assert not spec.qkv_bias
    assert spec.parameter_count() == sum(
        p.numel() for n, p in checkpoint.model.named_parameters() if "norm" not in n
    )
    assert manifest.kv.kv_heads == settings.num_key_value_heads
    assert manifest.prompt.stop_token_ids == (settings.eos_token_id,)
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.image is None
    assert set(manifest.graphs) == {"decoder"}
