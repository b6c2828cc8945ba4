"""PaliGemma and PaliGemma 2: prompts that see themselves in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT, StaticLowering
from edgevlm.errors import ContractError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.model.load import load
from tests import oracles
from tests.export.targets import lowered
from tests.export.vlm import conversations, tiny


@pytest.fixture(scope="module", params=["gemma", "gemma2"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint, its bundle, and the answers of both sides."""
    root = tmp_path_factory.mktemp(request.param)
    tiny.paligemma(root / "checkpoint", request.param)
    export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    cases = []
    for names in (["wide"], ["tall"], ["photo"], ["photo", "wide"]):
        root.joinpath("asked").mkdir(exist_ok=True)
        images = [conversations.picture(root / "asked", name) for name in names]
        marks = ["IMAGE"] * len(images)
        cases.append(
            {
                "images": images,
                "text": "<image>" * len(images) + "caption en",
                "messages": [conversations.turn("user", *marks, "caption en")],
            }
        )
    asked = root / "asked" / "conversations.json"
    asked.write_text(json.dumps(cases))
    oracles.run("tests.export.vlm.source_answers", root / "checkpoint", asked, root / "source.npz")
    oracles.run(
        "tests.export.vlm.bundle_answers", root / "bundle", asked, root / "bundle.npz",
        oracles=False,
    )  # fmt: skip
    return root


@pytest.mark.parametrize("number", range(4), ids=["wide", "tall", "photo", "two pictures"])
def test_prompt_logits_and_greedy_tokens_are_those_of_transformers(root: Path, number: int):
    source, bundle = np.load(root / "source.npz"), np.load(root / "bundle.npz")
    np.testing.assert_array_equal(bundle[f"{number}.ids"], source[f"{number}.ids"])
    assert np.abs(bundle[f"{number}.logits"] - source[f"{number}.logits"]).max() < 1e-3
    np.testing.assert_array_equal(bundle[f"{number}.tokens"], source[f"{number}.tokens"])


def test_a_prompt_of_the_question_alone_is_answered_too(root: Path):
    with load(root / "bundle", threads=2, spin=False) as model:
        assert model.ask(question="caption en", max_tokens=3).tokens.visual == 0


def test_rows_behind_a_prompt_come_one_at_a_time(root: Path):
    with load(root / "bundle", threads=2, spin=False) as model:
        decoder = model._inference._decoder
        decoder.append(np.zeros((4, 64), np.float32))
        with pytest.raises(ContractError, match="takes its whole prompt at once"):
            decoder.append(np.zeros((2, 64), np.float32))


@pytest.mark.parametrize("lowering", [ONNX_STD, TRT10_COMPAT])
def test_lowered_for_engines_it_says_what_it_said(
    root: Path, lowering: StaticLowering, tmp_path: Path
):
    bundle = np.load(root / "bundle.npz")
    found = lowered.answers(root, root / "asked" / "conversations.json", lowering, tmp_path)
    for number, tokens in enumerate(found):
        np.testing.assert_array_equal(tokens, bundle[f"{number}.tokens"])
