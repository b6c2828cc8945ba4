"""Rules of generation_config.json, from the checkpoint to the answer: transformers' own tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.model.load import load
from tests import oracles
from tests.export import tiny as text_models
from tests.export.vlm import STEPS, conversations, tiny

RULES: dict[str, Any] = {
    "bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.4, "top_k": 7,
    "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "forced_eos_token_id": 1,
    "begin_suppress_tokens": list(range(100, 200)), "suppress_tokens": [7, 8, 9],
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> text_models.Checkpoint:
    """A text checkpoint with rules."""
    settings = text_models.config("llama", initializer_range=0.1)
    made = text_models.save(tmp_path_factory.mktemp("text") / "checkpoint", settings, seed=3)
    (made.folder / "generation_config.json").write_text(json.dumps(RULES))
    return made


def test_a_text_model_says_what_generate_says(source: text_models.Checkpoint, tmp_path: Path):
    import torch

    export(str(source.folder), tmp_path / "bundle", ExportOptions())
    ids = text_models.tokenizer().encode(text_models.PROMPT, add_special_tokens=False).ids
    rules = {k: v for k, v in RULES.items() if k not in ("do_sample", "temperature", "top_k")}
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        done = source.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0,
            max_new_tokens=STEPS, **rules,
        )  # fmt: skip
    wanted = done[0, len(ids) :].tolist()
    assert wanted != text_models.torch_greedy(source.model, ids, STEPS)  # the rules do something
    with load(tmp_path / "bundle", threads=2, spin=False) as model:
        answer = model.ask(question=text_models.PROMPT, max_tokens=STEPS)
        again = model.ask(question=text_models.PROMPT, max_tokens=STEPS)
    assert list(answer.token_ids) == wanted
    assert len(wanted) == STEPS  # the end comes with the budget, because it is forced
    assert answer.finish_reason == "length"
    assert again.token_ids == answer.token_ids


def test_pictures_count_as_their_tokens(tmp_path: Path):
    folder = tmp_path / "checkpoint"
    tiny.smolvlm(folder)
    (folder / "generation_config.json").write_text(json.dumps(RULES))
    export(str(folder), tmp_path / "bundle", ExportOptions())
    asked = conversations.write(tmp_path / "asked")
    cases = json.loads(asked.read_text())
    asked.write_text(json.dumps([cases[2], cases[5], cases[6]]))
    oracles.run("tests.export.vlm.source_answers", folder, asked, tmp_path / "source.npz")
    oracles.run(
        "tests.export.vlm.bundle_answers", tmp_path / "bundle", asked, tmp_path / "bundle.npz",
        oracles=False,
    )  # fmt: skip
    source, bundle = np.load(tmp_path / "source.npz"), np.load(tmp_path / "bundle.npz")
    for number in range(3):
        np.testing.assert_array_equal(bundle[f"{number}.tokens"], source[f"{number}.tokens"])
