"""MobileCLIP from open_clip's files: tiny random checkpoints, their bundles, and timm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import CheckpointError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from tests import oracles
from tests.export.vlm.conversations import SHAPES, picture

TEXTS = [
    "a photo of a Boat",
    "red",
    "two people, seen from behind, who wait for the ferry to the islands in the rain",
]
FORMS = ("fastvit_mci0", "fastvit_mci2 folded causal", "vit_base_mci_224 causal")


@dataclass(frozen=True)
class Shown:
    """One export, and the answers of both sides."""

    exported: Exported
    source: dict[str, np.ndarray]
    bundle: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=FORMS)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Make a checkpoint, export it, and ask both sides."""
    root = tmp_path_factory.mktemp("mobileclip")
    questions = root / "questions.json"
    images = [picture(root, name) for name in SHAPES]
    questions.write_text(json.dumps({"images": images, "texts": TEXTS}))
    oracles.run(
        "tests.export.encoders.mobileclip_source",
        root / "checkpoint", request.param, questions, root / "source.npz",
    )  # fmt: skip
    exported = export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    oracles.run(
        "tests.export.encoders.label_answers",
        root / "bundle", questions, root / "bundle.npz", oracles=False,
    )  # fmt: skip
    return Shown(exported, dict(np.load(root / "source.npz")), dict(np.load(root / "bundle.npz")))


@pytest.mark.parametrize("number", range(len(SHAPES)), ids=list(SHAPES))
def test_pictures_and_their_labels_are_those_of_timm(shown: Shown, number: int):
    for name in ("features", "embedding", "chances"):
        found, wanted = (side[f"{number}.{name}"] for side in (shown.bundle, shown.source))
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4


def test_texts_are_those_of_open_clip_long_ones_cut(shown: Shown):
    assert np.abs(shown.bundle["texts"] - shown.source["texts"]).max() < 1e-4


def test_the_certificate_says_whose_reference_it_is(shown: Shown):
    certificate = shown.exported.certificate
    assert certificate.reference.startswith("edgevlm's own torch code")
    found = certificate.backends[0]
    assert {stage.stage for stage in found.stages} == {
        "vision.features", "vision.pooled", "vision.embedding", "text.text_embeds",
    }  # fmt: skip
    assert all(stage.max_abs < 1e-4 for stage in found.stages)


@pytest.mark.parametrize(
    ("vision", "text", "says"),
    [
        ({"timm_model_name": "resnet50"}, {}, "'resnet50' is not known, only"),
        ({"timm_model_name": "vit_base_mci_224", "timm_pool": "avg"}, {}, "only 'token' is known"),
        ({"timm_model_name": "fastvit_mci0"}, {"hf_model_name": "roberta"}, "hf_model_name"),
        ({"timm_model_name": "fastvit_mci0", "timm_pool": "map"}, {}, "only 'avg' is known"),
    ],
)
def test_other_parts_of_open_clip_are_refused(
    vision: dict[str, str], text: dict[str, str], says: str, tmp_path: Path
):
    config = {"model_cfg": {"vision_cfg": vision, "text_cfg": text}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=says):
        export(str(tmp_path), tmp_path / "bundle", ExportOptions())


def test_a_pickled_checkpoint_is_refused_with_the_reason(tmp_path: Path):
    config = {"model_cfg": {"vision_cfg": {"timm_model_name": "fastvit_mci0"}, "text_cfg": {}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match="loading them runs code"):
        export(str(tmp_path), tmp_path / "bundle", ExportOptions())
