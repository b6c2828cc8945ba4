"""Every chat family: a tiny random checkpoint, its bundle, and transformers, asked the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT, StaticLowering
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.load import load
from tests import oracles
from tests.export.targets import lowered
from tests.export.vlm import conversations, tiny


def fast_vlm(folder: Path, form: str) -> None:
    """Made in a process that can import timm."""
    oracles.run("tests.export.vlm.tiny", folder, form)


FAMILIES: dict[str, Callable[[Path], object]] = {
    "smolvlm": tiny.smolvlm,
    "idefics3": lambda folder: tiny.smolvlm(folder, 3, "idefics3"),
    "llava_onevision": tiny.llava_onevision,
    "internvl": tiny.internvl,
    "qwen2_vl": tiny.qwen2_vl,
    "qwen2_5_vl": tiny.qwen2_5_vl,
    "qwen3_vl": tiny.qwen3_vl,
    "lfm2_vl": tiny.lfm2_vl,
    "lfm2_vl without thumbnail, norm, biases": lambda folder: tiny.lfm2_vl(folder, bare=True),
    "fast_vlm": lambda folder: fast_vlm(folder, "branches"),
    "fast_vlm folded": lambda folder: fast_vlm(folder, "folded"),
}
CASES = ("wide", "tall", "photo", "small", "two pictures", "several turns", "text only")


@dataclass(frozen=True)
class Asked:
    """One family: its export, and the answers of both sides."""

    exported: Exported
    source: dict[str, np.ndarray]
    bundle: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=list(FAMILIES))
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Export one family and ask both sides."""
    root = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param.startswith("fast_vlm"):  # its reference needs timm as well
            patch.setenv("PYTHONPATH", oracles.search_path())
        FAMILIES[request.param](root / "checkpoint")
        exported = export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    asked = conversations.write(root / "asked")
    oracles.run("tests.export.vlm.source_answers", root / "checkpoint", asked, root / "source.npz")
    oracles.run(
        "tests.export.vlm.bundle_answers", root / "bundle", asked, root / "bundle.npz",
        oracles=False,
    )  # fmt: skip
    return Asked(exported, dict(np.load(root / "source.npz")), dict(np.load(root / "bundle.npz")))


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_prompt_logits_and_greedy_tokens_are_those_of_transformers(asked: Asked, number: int):
    source, bundle = asked.source, asked.bundle
    np.testing.assert_array_equal(bundle[f"{number}.ids"], source[f"{number}.ids"])
    error = np.abs(bundle[f"{number}.logits"] - source[f"{number}.logits"]).max()
    assert error < 1e-3
    np.testing.assert_array_equal(bundle[f"{number}.tokens"], source[f"{number}.tokens"])


def test_drafts_and_shared_prefills_change_no_answer(asked: Asked, tmp_path: Path):
    wide, tall = (conversations.picture(tmp_path, name) for name in ("wide", "tall"))
    with load(asked.exported.target, threads=2, spin=False) as model:
        plain = {
            question: model.ask([wide, tall], question, max_tokens=16, draft=False)
            for question in ("What is it?", "What is it? And where?", "Which?")
        }
        drafts = Drafts()
        for _ in range(3):
            for question, wanted in plain.items():
                found = model.ask([wide, tall], question, max_tokens=16, draft=drafts)
                assert found.token_ids == wanted.token_ids
        many = model.ask_many([wide, tall], list(plain), max_tokens=16)
        assert [a.token_ids for a in many] == [a.token_ids for a in plain.values()]
        assert [a.tokens.prompt for a in many] == [a.tokens.prompt for a in plain.values()]
        assert [a.timings_ms.encode > 0 for a in many] == [True, False, False]


def test_the_certificate_compares_every_stage_with_the_source_model(asked: Asked):
    certificate = asked.exported.certificate
    assert certificate.reference.startswith("transformers ")
    found = certificate.backends[0]
    stages = {stage.stage for stage in found.stages}
    assert {"hidden.first", "hidden.last"} < stages
    assert stages & {"vision.visual_tokens", "vision.merged"}
    assert found.misses == ()
    assert all(stage.max_abs < 1e-3 for stage in found.stages)
    assert found.greedy is not None
    assert found.greedy.agreed == found.greedy.steps == 32


@pytest.mark.parametrize("lowering", [ONNX_STD, TRT10_COMPAT])
def test_lowered_for_engines_it_says_what_it_said(
    asked: Asked, lowering: StaticLowering, tmp_path: Path
):
    root = asked.exported.target.parent
    found = lowered.answers(root, root / "asked" / "conversations.json", lowering, tmp_path)
    assert len(found) == len(CASES)
    for number, tokens in enumerate(found):
        np.testing.assert_array_equal(tokens, asked.bundle[f"{number}.tokens"])
