"""nano's language model against transformers, which reads the same GGUF file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgevlm.bundle import Bundle
from edgevlm.export.nano.packages import DECODER
from edgevlm.runtime.model.load import load
from tests.export.conftest import Reference
from tests.export.tiny import (
    TEXT,
    bundle_logits,
    decoder,
    export_to,
    torch_greedy,
    torch_logits,
)

WINDOW, WINDOWS = 512, 4
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Tell me a story about a robot that learns to paint boats."},
]


@pytest.fixture(scope="session")
def windows(smollm2: Reference) -> NDArray[np.int64]:
    """Token ids of a novel's first chapter, in windows that are scored on their own."""
    ids = smollm2.tokenizer(TEXT.read_text("utf-8")).input_ids
    return np.array(ids[: WINDOW * WINDOWS]).reshape(WINDOWS, WINDOW)


def perplexity(logits: list[NDArray[np.float32]], windows: NDArray[np.int64]) -> float:
    total = 0.0
    for found, ids in zip(logits, windows, strict=True):
        scores = torch.log_softmax(torch.from_numpy(found[: WINDOW - 1]).double(), -1)
        total -= float(scores.gather(1, torch.from_numpy(ids[1:, None])).sum())
    assert windows.size - WINDOWS >= 2000
    return math.exp(total / (windows.size - WINDOWS))


def bundle_perplexity(bundle: Bundle, windows: NDArray[np.int64]) -> float:
    logits = []
    with decoder(bundle) as (cached, table):
        for ids in windows:
            cached.rewind(0)
            rows = table.rows(ids[:-1].tolist())
            logits.append(cached.append(rows, logits=WINDOW - 1).copy())
    return perplexity(logits, windows)


@pytest.fixture(scope="session")
def exact_perplexity(smollm2: Reference, windows: NDArray[np.int64]) -> float:
    logits = [torch_logits(smollm2.model, w.tolist()) for w in windows]
    return perplexity(logits, windows)


def chat_ids(smollm2: Reference) -> list[int]:
    rendered = smollm2.tokenizer.apply_chat_template(
        MESSAGES, add_generation_prompt=True, tokenize=False
    )
    return list(smollm2.tokenizer(rendered).input_ids)


def test_fp32_logits_on_a_chat_prompt_equal_transformers(
    nano_fp32: Bundle, smollm2: Reference
) -> None:
    ids = chat_ids(smollm2)
    error = float(np.abs(bundle_logits(nano_fp32, ids) - torch_logits(smollm2.model, ids)).max())
    print(f"{len(ids)} positions, max logit error {error:.2g}")
    assert error < 1e-3


def test_64_greedy_tokens_in_fp32_are_those_of_generate(
    nano_fp32: Bundle, smollm2: Reference
) -> None:
    wanted = torch_greedy(smollm2.model, chat_ids(smollm2), 64)
    assert len(wanted) == 64
    with load(nano_fp32.root, threads=2, spin=False) as model:
        answer = model.ask(messages=MESSAGES, max_tokens=64)
    assert list(answer.token_ids) == wanted
    assert answer.tokens.prompt == len(chat_ids(smollm2))
    assert answer.text == smollm2.tokenizer.decode(wanted, skip_special_tokens=True).strip()


def test_fp32_perplexity_is_that_of_transformers(
    nano_fp32: Bundle, windows: NDArray[np.int64], exact_perplexity: float
) -> None:
    found = bundle_perplexity(nano_fp32, windows)
    print(f"perplexity: fp32 {found:.4f}, transformers {exact_perplexity:.4f}")
    assert abs(found / exact_perplexity - 1) < 0.005


def test_int4_perplexity_is_within_12_percent_of_transformers(
    nano: Bundle, windows: NDArray[np.int64], exact_perplexity: float
) -> None:
    found = bundle_perplexity(nano, windows)
    print(f"perplexity: int4 {found:.4f}, {found / exact_perplexity - 1:+.2%}")
    assert found / exact_perplexity < 1.12


def test_int4_still_tells_a_likely_from_an_unlikely_ending(nano: Bundle) -> None:
    with load(nano.root, threads=2, spin=False) as model:
        answer = model.ask(None, "What is the capital of France?", max_tokens=20)
    assert "Paris" in answer.text


@pytest.mark.slow  # the default precisions are measured above
@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("int8", {"precision": "int8"}, 0.01),
        ("symmetric int4", {"precision": "int4", "symmetric": True, "allow_drift": True}, 0.3),
    ],
)
def test_perplexity_of_the_other_precisions(
    tmp_path: Path,
    windows: NDArray[np.int64],
    exact_perplexity: float,
    name: str,
    options: dict[str, Any],
    limit: float,
) -> None:
    found = bundle_perplexity(export_to(DECODER.locate(), tmp_path / "b", **options), windows)
    print(f"perplexity: {name} {found:.4f}, {found / exact_perplexity - 1:+.2%}")
    assert abs(found / exact_perplexity - 1) < limit


@pytest.mark.slow  # a measurement behind a default, not a behaviour
def test_attention_inputs_in_4_bits_cost_more_than_all_other_layers_together(
    tmp_path: Path, nano: Bundle, windows: NDArray[np.int64], exact_perplexity: float
) -> None:
    everything = export_to(
        DECODER.locate(),
        tmp_path / "b",
        precision="int4",
        allow_drift=True,
        overrides={f"*.self_attn.{p}_proj": "int4" for p in "qkv"},
    )
    kept, found = bundle_perplexity(nano, windows), bundle_perplexity(everything, windows)
    print(f"query, key, value in 8 bits {kept:.3f}, in 4 bits {found:.3f}")
    assert found - kept > kept - exact_perplexity
