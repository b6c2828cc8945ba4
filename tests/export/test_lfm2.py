"""Tiny random LFM2 models against transformers: convolutions, their state, and going back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from edgevlm.bundle import Bundle
from edgevlm.errors import CheckpointError, ContractError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.lfm2 import FAMILY
from edgevlm.export.recipe import gather_folder
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.kv_cache import CHUNK, CachedDecoder
from edgevlm.runtime.model.load import load
from tests.export.tiny import (
    PROMPT,
    VOCAB,
    Checkpoint,
    bundle_logits,
    decoder,
    export_to,
    save,
    tokenizer,
    torch_greedy,
    torch_logits,
)

KINDS: dict[str, dict[str, Any]] = {
    "convolution first and last": {"layer_types": ["conv", "full_attention", "conv"]},
    "attention first and last": {
        "layer_types": ["full_attention", "conv", "full_attention"],
        "num_attention_heads": 5, "num_key_value_heads": 1, "hidden_size": 80,
        "conv_L_cache": 4, "tie_word_embeddings": False,
    },
    "biases, an MLP as wide as it says": {
        "full_attn_idxs": [1], "layer_types": None, "conv_bias": True,
        "block_auto_adjust_ff_dim": False, "conv_L_cache": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip


def config(**changes: Any) -> Any:
    """A small config: 3 heads of 24 are no multiple of 16."""
    settings: dict[str, Any] = {
        "hidden_size": 72, "intermediate_size": 90, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 3, "vocab_size": VOCAB,
        "max_position_embeddings": 2048, "initializer_range": 0.2, "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": None, "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.3,
    }  # fmt: skip
    return transformers.Lfm2Config(**(settings | changes))


def ids_of(text: str) -> list[int]:
    return list(tokenizer().encode(text).ids)


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of one kind, and its bundle."""
    root = tmp_path_factory.mktemp("lfm2")
    checkpoint = save(root / "checkpoint", config(**KINDS[request.param]))
    return checkpoint, export_to(root / "checkpoint", root / "bundle", max_context=1024)


def test_logits_and_greedy_tokens_are_those_of_transformers(made: tuple[Checkpoint, Bundle]):
    checkpoint, bundle = made
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    assert wanted.std() > 0.5, "logits this flat would agree by chance"
    np.testing.assert_allclose(bundle_logits(bundle, ids), wanted, atol=2e-4)
    with load(bundle.root, threads=2, spin=False) as model:
        answer = model.ask(None, PROMPT, max_tokens=32)
    assert list(answer.token_ids) == torch_greedy(checkpoint.model, ids, 32)


def test_the_numpy_reference_equals_transformers_in_pieces_too(made: tuple[Checkpoint, Bundle]):
    checkpoint, _ = made
    parts = gather_folder(checkpoint.folder, ExportOptions())
    assert parts.spec is not None
    assert parts.weights is not None
    reference = NumpyDecoder(parts.spec, parts.weights)
    ids = ids_of(PROMPT)
    rows, wanted = reference.embed(ids), torch_logits(checkpoint.model, ids)
    np.testing.assert_allclose(reference.forward(rows), wanted, atol=2e-4)
    reference.reset()
    pieces = [reference.forward(piece) for piece in np.split(rows, [1, 2, 9, 10])]
    np.testing.assert_allclose(np.concatenate(pieces), wanted, atol=2e-4)


def test_a_prompt_in_pieces_of_any_length_gives_the_same_logits(made: tuple[Checkpoint, Bundle]):
    checkpoint, bundle = made
    ids = (ids_of(PROMPT) * 30)[: CHUNK + 90]
    wanted = torch_logits(checkpoint.model, ids)[-1]
    with decoder(bundle) as (cached, table):
        np.testing.assert_allclose(cached.append(table.rows(ids))[-1], wanted, atol=1e-3)
        cached.rewind(0)
        for start, stop in ((0, 1), (1, 2), (2, 5), (5, 6), (6, 90), (90, len(ids))):
            logits = cached.append(table.rows(ids[start:stop]))
        np.testing.assert_allclose(logits[-1], wanted, atol=1e-3)


def test_it_goes_back_to_its_beginning_and_to_marks_and_nowhere_else(
    made: tuple[Checkpoint, Bundle],
):
    _, bundle = made
    ids, other = ids_of(PROMPT), ids_of("Something else entirely, 1234567890!")
    with decoder(bundle) as (cached, table):
        clean = cached.append(table.rows(ids), logits=len(ids)).copy()
        for keep in (0, 1, 2, 10):
            cached.rewind(0)
            if keep:
                cached.append(table.rows(ids[:keep]))
                cached.mark()
            for text in (other, other[:1]):
                cached.append(table.rows(text))
                cached.rewind(keep)
            again = cached.append(table.rows(ids[keep:]), logits=len(ids) - keep)
            np.testing.assert_allclose(again, clean[keep:], atol=1e-4)
            cached.rewind(len(ids))  # where it stands
        with pytest.raises(ContractError, match=r"cannot rewind to 7: .* kept at 0, 10 only"):
            cached.rewind(7)
        assert cached.length == len(ids)
        cached.rewind(0)
        cached.append(table.rows(other))
        with pytest.raises(ContractError, match=r"kept at 0 only"):  # 10 was another text's
            cached.rewind(10)


def test_a_scripted_backend_goes_back_too(made: tuple[Checkpoint, Bundle]):
    _, bundle = made
    manifest = bundle.manifest
    graph = ScriptedBackend(manifest, [5, 6, 7]).load(Path("decoder.onnx"))
    assert manifest.kv is not None
    assert manifest.decoder is not None
    cached = CachedDecoder(graph, manifest.kv, manifest.decoder)
    rows = np.zeros((4, manifest.decoder.hidden_size), np.float32)
    for _ in range(2):
        assert cached.append(rows)[-1].argmax() == 5
        cached.mark()
        assert cached.append(rows[:1])[-1].argmax() == 6
        cached.rewind(4)
        cached.rewind(0)


def test_the_manifest_counts_keys_values_and_state(made: tuple[Checkpoint, Bundle]):
    checkpoint, bundle = made
    kv, settings = bundle.manifest.kv, checkpoint.model.config
    assert kv is not None
    assert kv.conv is not None
    kinds = settings.layer_types
    assert [kinds[i] for i in kv.attention_layers] == ["full_attention"] * len(kv.attention_layers)
    head = settings.hidden_size // settings.num_attention_heads
    token = 2 * 4 * len(kv.attention_layers) * settings.num_key_value_heads * head
    state = 4 * kinds.count("conv") * (settings.conv_L_cache - 1) * settings.hidden_size
    assert (kv.bytes_per_token, kv.conv_bytes) == (token, state)
    assert bundle.manifest.memory.kv_cache == 1024 * token + state


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), ("int8", 0.1), ("int4", 0.6)])
def test_a_lower_precision_stays_near_transformers(tmp_path: Path, precision: str, limit: float):
    wide = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 192, "block_multiple_of": 32,
            "layer_types": ["conv", "full_attention", "conv"]}  # fmt: skip
    checkpoint = save(tmp_path / "c", config(**wide))
    bundle = export_to(checkpoint.folder, tmp_path / "b", precision=precision, allow_drift=True)
    ids = ids_of(PROMPT)
    wanted = torch_logits(checkpoint.model, ids)
    error = float(np.sqrt(np.square(bundle_logits(bundle, ids) - wanted).mean()) / wanted.std())
    assert 0 < error < limit
    if precision.startswith("int"):
        blocks = {n for n, w in bundle.manifest.weights.items() if w.layout == "blocks"}
        assert {"layers.0.conv.in", "layers.0.conv.out", "layers.2.conv.in"} < blocks
    with decoder(bundle) as (cached, table):  # the state comes back in its own precision
        cached.append(table.rows(ids[:5]))
        cached.mark()
        first = cached.append(table.rows(ids[5:9])).copy()
        cached.rewind(5)
        np.testing.assert_allclose(cached.append(table.rows(ids[5:9])), first, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": ["conv"] * 3}, "none of the 3 layers attends"),
        ({"layer_types": ["conv", "full_attention"]}, "layer_types names 2 layers of 3"),
        ({"layer_types": ["conv", "full_attention", "mamba"]}, r"layer_types \['mamba'\]"),
        ({"conv_L_cache": 1}, "conv_kernel"),
        ({"block_multiple_of": "wide"}, "the MLP's width"),
    ],
)
def test_a_config_that_does_not_hold_together_is_refused(changes: dict[str, Any], message: str):
    settings = {**config(**KINDS["convolution first and last"]).to_dict(), **changes}
    with pytest.raises(CheckpointError, match=message):
        FAMILY.spec(settings)


def test_without_convolutions_it_is_a_decoder_of_attention_alone():
    spec = FAMILY.spec(config(layer_types=["full_attention"] * 3).to_dict())
    assert (spec.conv_layers, spec.conv_kernel) == ((), None)


def test_keys_of_published_configs_are_understood():
    published = {
        "hidden_size": 2048, "block_ff_dim": 12288, "num_hidden_layers": 16,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14], "num_attention_heads": 32,
        "num_key_value_heads": 8, "norm_eps": 1e-5, "vocab_size": 65536, "tie_embedding": True,
        "max_position_embeddings": 128000, "conv_L_cache": 3, "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True,
    }  # fmt: skip
    spec = FAMILY.spec(published)
    assert (spec.intermediate_size, spec.rope_theta, spec.tied_head) == (8192, 1e6, True)
    assert spec.attention_layers == (2, 5, 8, 10, 12, 14)
