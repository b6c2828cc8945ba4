"""The rules of an answer against transformers' own logits processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from edgevlm.bundle.generation import GenerationRules
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, generation_rules
from edgevlm.runtime.model.logit_rules import LogitRules

VOCAB, BUDGET = 13, 9
RULES: dict[str, dict[str, Any]] = {
    "penalty": {"repetition_penalty": 1.3},
    "reward": {"repetition_penalty": 0.7},
    "no token twice": {"no_repeat_ngram_size": 1},
    "no pair twice": {"no_repeat_ngram_size": 2},
    "no triple twice": {"no_repeat_ngram_size": 3},
    "forced": {"forced_bos_token_id": 4, "forced_eos_token_id": 5},
    "forced, several ends": {"forced_eos_token_id": [5, 6]},
    "suppressed": {"suppress_tokens": [1, 2, 12], "begin_suppress_tokens": [3, 7]},
    "begin behind a forced token": {"forced_bos_token_id": 4, "begin_suppress_tokens": [3, 7]},
    "all": {
        "repetition_penalty": 1.1, "no_repeat_ngram_size": 2, "forced_bos_token_id": 4,
        "forced_eos_token_id": 5, "suppress_tokens": [0], "begin_suppress_tokens": [3],
    },
}  # fmt: skip


def checkpoint(folder: Path, content: dict[str, Any], name: str = "generation_config.json") -> Any:
    """A folder with nothing but its settings."""
    (folder / "config.json").write_text("{}")
    (folder / name).write_text(json.dumps(content))
    return Checkpoint(folder)


@pytest.mark.parametrize("history", [[2], [3, 3, 3], [1, 2, 1, 2, 9, 1]], ids=len)
@pytest.mark.parametrize("name", list(RULES))
def test_logits_of_a_whole_answer_are_those_of_transformers(
    name: str, history: list[int], tmp_path: Path
):
    settings = GenerationConfig(
        **RULES[name], max_length=len(history) + BUDGET, bos_token_id=0, eos_token_id=5
    )
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=4, n_layer=1, n_head=1))
    settings._eos_token_tensor = torch.tensor([5])
    processors = model._get_logits_processor(settings, input_ids_seq_length=len(history))
    random = np.random.default_rng(len(name))
    rules = LogitRules(
        generation_rules(checkpoint(tmp_path, RULES[name])), history, BUDGET
    )  # fmt: skip
    ids = list(history)
    for _ in range(BUDGET):
        logits = random.normal(0, 3, VOCAB).astype(np.float32)
        before = logits.copy()
        wanted = processors(torch.tensor([ids]), torch.from_numpy(logits)[None].clone())[0].numpy()
        found = rules.apply(logits)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        np.testing.assert_array_equal(logits, before)
        ids.append(int(wanted.argmax()))
        rules.said(ids[-1])


def test_a_forced_end_is_told_from_one_that_the_model_wanted():
    rules = GenerationRules(forced_eos_token_ids=(5,))
    for best, cut in ((3, True), (5, False)):
        answer = LogitRules(rules, [1], 1)
        scores = answer.apply(np.eye(VOCAB, dtype=np.float32)[best])
        assert int(scores.argmax()) == 5
        assert answer.cut is cut


def test_without_rules_the_logits_are_not_even_copied():
    logits = np.zeros(VOCAB, np.float32)
    assert LogitRules(GenerationRules(), [1, 2], 3).apply(logits) is logits


def test_rows_that_are_no_tokens_are_left_alone():
    rules = LogitRules(GenerationRules(repetition_penalty=2.0), [-1, VOCAB, 3], 3)
    found = rules.apply(np.ones(VOCAB, np.float32))
    np.testing.assert_array_equal(np.flatnonzero(found != 1), [3])


def test_settings_of_sampling_are_nobodys_rules(tmp_path: Path):
    content = {"temperature": 0.6, "do_sample": True, "top_k": 5, "num_beams": 3}
    assert generation_rules(checkpoint(tmp_path, content)).idle


def test_old_checkpoints_have_them_in_the_config(tmp_path: Path):
    content = {"text_config": {"no_repeat_ngram_size": 3, "forced_eos_token_id": 2}}
    found = generation_rules(checkpoint(tmp_path, content, "config.json"))
    assert found == GenerationRules(no_repeat_ngram_size=3, forced_eos_token_ids=(2,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bad_words_ids": [[3]]}, "asks for bad_words_ids = .*, which is not supported; remove"),
        ({"min_length": 4}, "asks for min_length = 4"),
        ({"repetition_penalty": 0}, "repetition_penalty: Input should be greater than 0"),
        ({"forced_bos_token_id": "a"}, "forced_bos_token_id: "),
    ],
)
def test_a_rule_that_is_not_known_or_none_is_refused(
    content: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(CheckpointError, match=message):
        generation_rules(checkpoint(tmp_path, content))
