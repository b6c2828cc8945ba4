"""SAM: a tiny random checkpoint, its bundle, and transformers, shown the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle.static_cache import ONNX_STD
from edgevlm.errors import CheckpointError, ConfigError, ContractError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from tests import oracles
from tests.export.encoders import tiny_sam
from tests.export.targets import lowered
from tests.export.vlm.conversations import picture

QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "one point": ("wide", {"points": [[[100, 20]]]}),
    "several prompts": ("tall", {"points": [[[30, 80], [12.5, 9]], [[59, 158], [1, 1]]]}),
    "outside points": ("photo", {"points": [[[80, 60], [3, 7]]], "labels": [[1, 0]]}),
    "prompts of different length": (
        "small",
        {"points": [[[3, 4], [20, 28], [11, 2]], [[15, 15]]], "labels": [[1, 0, 1], [0]]},
    ),
    "boxes": ("tall", {"boxes": [[3, 20, 50, 150], [10, 0, 60, 31]]}),
    "points and boxes": (
        "wide",
        {"points": [[[100, 20]], [[7, 30]]], "boxes": [[0, 1, 150, 36], [5, 5, 90, 30]]},
    ),
}


@dataclass(frozen=True)
class Shown:
    """One export, and the answers of both sides."""

    exported: Exported
    source: list[dict[str, np.ndarray]]
    bundle: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Export, and ask both sides."""
    root = tmp_path_factory.mktemp("sam")
    model = tiny_sam.sam(root / "checkpoint")
    exported = export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    cases = [
        {"image": picture(root, name), "prompts": prompts} for name, prompts in QUESTIONS.values()
    ]
    (root / "questions.json").write_text(json.dumps(cases))
    oracles.run(
        "tests.export.encoders.mask_answers",
        root / "bundle", root / "questions.json", root / "bundle.npz", oracles=False,
    )  # fmt: skip
    source = [tiny_sam.source_answers(model, c["image"], c["prompts"]) for c in cases]
    return Shown(exported, source, dict(np.load(root / "bundle.npz")))


@pytest.mark.parametrize("number", range(len(QUESTIONS)), ids=list(QUESTIONS))
def test_embeddings_masks_and_scores_are_those_of_transformers(shown: Shown, number: int):
    source, bundle = shown.source[number], shown.bundle
    found = bundle[f"{number}.image_embeddings"]
    assert np.abs(found - source["image_embeddings"]).max() < 1e-4
    for several in (True, False):
        for name in ("logits", "scores"):
            wanted = source[f"{several}.{name}"]
            assert bundle[f"{number}.{several}.{name}"].shape == wanted.shape
            assert np.abs(bundle[f"{number}.{several}.{name}"] - wanted).max() < 1e-4
        large = source[f"{several}.large"]
        masks = bundle[f"{number}.{several}.masks"]
        clear = np.abs(large) > 1e-3
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(masks[clear], (large > 0)[clear])


def test_lowered_for_engines_every_output_is_the_same(shown: Shown, tmp_path: Path):
    found = lowered.certified(shown.exported.target, ONNX_STD, tmp_path)
    assert found.misses == ()
    before = shown.exported.certificate.backends[0]
    worst = {stage.stage: stage.max_abs for stage in before.stages}
    assert {stage.stage for stage in found.stages} == worst.keys()
    assert all(s.max_abs <= max(1e-4, 2 * worst[s.stage]) for s in found.stages)


def test_the_certificate_compares_embeddings_masks_and_scores(shown: Shown):
    certificate = shown.exported.certificate
    assert certificate.reference.startswith("transformers ")
    found = certificate.backends[0]
    assert {stage.stage for stage in found.stages} == {
        "vision.image_embeddings", "mask.masks", "mask.scores",
    }  # fmt: skip
    assert found.misses == ()
    assert all(stage.max_abs < 1e-4 for stage in found.stages)


@pytest.mark.parametrize(
    "changes",
    [{"use_rel_pos": False}, {"use_abs_pos": False}, {"window_size": 3}, {"qkv_bias": False}],
    ids=str,
)
def test_other_image_encoders_keep_the_gates(changes: dict[str, Any], tmp_path: Path):
    tiny_sam.sam(tmp_path / "checkpoint", num_hidden_layers=2, **changes)
    exported = export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions())
    assert all(stage.max_abs < 1e-4 for stage in exported.certificate.backends[0].stages)


def test_half_precision_keeps_its_gates(tmp_path: Path):
    tiny_sam.sam(tmp_path / "checkpoint")
    options = ExportOptions(precision="fp16")
    exported = export(str(tmp_path / "checkpoint"), tmp_path / "bundle", options)
    assert exported.manifest.graphs["heads/mask"].precision == "fp16"
    assert exported.certificate.passed


@pytest.fixture(scope="module")
def model(shown: Shown) -> Iterator[Vlm]:
    with load(shown.exported.target, threads=2, spin=False) as opened:
        yield opened


GREY = np.full((40, 60, 3), 127, np.uint8)


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ({}, "points or boxes, got neither"),
        ({"points": [[1, 2]]}, "a list of prompts, each a list of points"),
        ({"points": []}, "a list of prompts"),
        ({"points": [[[1, 2]]], "labels": [[2]]}, "1 .inside. or 0 .outside."),
        ({"points": [[[1, 2]]], "labels": [[1], [0]]}, "2 prompts of them for 1"),
        ({"labels": [[1]], "boxes": [[1, 2, 3, 4]]}, "labels belong to points"),
        ({"boxes": [[1, 2, 3]]}, r"\(left, top, right, bottom\)"),
        ({"boxes": [[9, 2, 3, 4]]}, "ends before it begins"),
        ({"boxes": [[1, 2, 3, float("nan")]]}, "not finite"),
        ({"points": [[[1, 2]]], "boxes": [[1, 2, 3, 4]] * 2}, "1 prompts and boxes for 2"),
    ],
)
def test_prompts_that_do_not_fit_are_named(model: Vlm, prompts: dict[str, Any], says: str):
    with pytest.raises(ContractError, match=says):
        model.masks(GREY, **prompts)


def test_the_best_mask_of_every_prompt(model: Vlm):
    found = model.masks(GREY, points=[[(5, 5)], [(50, 30)]])
    chosen = found.best()
    assert chosen.shape == (2, 40, 60)
    for n in range(2):
        np.testing.assert_array_equal(chosen[n], found.masks[n, found.scores[n].argmax()])


def test_what_the_bundle_cannot_do_is_said(model: Vlm):
    with pytest.raises(ContractError, match="can: encode, masks"):
        model.ask(GREY, "What is there?")
    with pytest.raises(ContractError, match="no text encoder"):
        model.classify(GREY, ["a boat"])


def test_options_that_do_not_fit_are_refused(tmp_path: Path):
    tiny_sam.sam(tmp_path / "checkpoint")
    for option, says in (
        ({"tokens": 4}, "--tokens: sam is an encoder"),
        ({"image_size": 96}, "--image-size 96: sam's positions"),
    ):
        with pytest.raises(ConfigError, match=says):
            export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions(**option))


def test_parts_of_different_sizes_are_refused(tmp_path: Path):
    tiny_sam.sam(tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "pad_size": {"height": 1024, "width": 1024}}))
    with pytest.raises(CheckpointError, match="pads to 1024 pixels; the encoder takes 72"):
        export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions())
