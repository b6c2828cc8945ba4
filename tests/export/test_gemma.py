"""Tiny random Gemma models of every generation, against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from edgevlm.bundle import Bundle
from edgevlm.runtime.model.kv_cache import CHUNK
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

KINDS = {
    "gemma": (transformers.GemmaConfig, {}),
    "gemma2": (
        transformers.Gemma2Config,
        {"sliding_window": 7, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0,
         "final_logit_softcapping": 9.0},
    ),
    "gemma3_text": (
        transformers.Gemma3TextConfig,
        {"sliding_window": 9, "query_pre_attn_scalar": 40, "num_hidden_layers": 3,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
         "rope_parameters": {
             "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    ),
}  # fmt: skip


def config(kind: str, **changes: Any) -> Any:
    """A small config of one generation; heads of 24 are no multiple of 16."""
    made, more = KINDS[kind]
    settings: dict[str, Any] = {
        "hidden_size": 60, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 24, "vocab_size": VOCAB,
        "max_position_embeddings": 2048, "initializer_range": 0.2, "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": None,
    }  # fmt: skip
    return made(**(settings | more | changes))


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of one generation, and its bundle."""
    root = tmp_path_factory.mktemp(request.param)
    checkpoint = save(root / "checkpoint", config(request.param))
    return checkpoint, export_to(root / "checkpoint", root / "bundle", max_context=1024)


def test_logits_and_greedy_tokens_are_those_of_transformers(made: tuple[Checkpoint, Bundle]):
    checkpoint, bundle = made
    ids = tokenizer().encode(PROMPT).ids
    np.testing.assert_allclose(
        bundle_logits(bundle, ids), torch_logits(checkpoint.model, ids), atol=2e-4
    )
    wanted = torch_greedy(checkpoint.model, ids, 16)
    with decoder(bundle) as (cached, table):
        logits = cached.append(table.rows(ids))
        found = []
        for _ in wanted:
            found.append(int(logits[-1].argmax()))
            logits = cached.append(table.rows(found[-1:]))
    assert found == wanted


def test_a_prompt_in_pieces_of_any_length_gives_the_same_logits(made: tuple[Checkpoint, Bundle]):
    checkpoint, bundle = made
    ids = (tokenizer().encode(PROMPT).ids * 30)[: CHUNK + 90]
    wanted = torch_logits(checkpoint.model, ids)[-1]
    with decoder(bundle) as (cached, table):
        np.testing.assert_allclose(cached.append(table.rows(ids))[-1], wanted, atol=5e-4)
        cached.rewind(0)
        for start in (0, 1, 5, 6, 90):
            stop = {0: 1, 1: 5, 5: 6, 6: 90, 90: len(ids)}[start]
            logits = cached.append(table.rows(ids[start:stop]))
        np.testing.assert_allclose(logits[-1], wanted, atol=5e-4)
        cached.rewind(40)
        logits = cached.append(table.rows(ids[40:]))
        np.testing.assert_allclose(logits[-1], wanted, atol=5e-4)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_other_precisions_stay_near(kind: str, precision: str, tmp_path: Path):
    wide = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2}
    checkpoint = save(tmp_path / "checkpoint", config(kind, **wide))
    bundle = export_to(
        tmp_path / "checkpoint", tmp_path / "bundle", precision=precision, allow_drift=True
    )
    ids = tokenizer().encode(PROMPT).ids
    wanted = torch_logits(checkpoint.model, ids).ravel()
    found = bundle_logits(bundle, ids).ravel()
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine > {"fp16": 0.9999, "int8": 0.99, "int4": 0.9}[precision]
