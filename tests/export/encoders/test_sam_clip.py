"""The merged encoder: one pass serves labels, a map of them over the patches, and masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgevlm
from edgevlm.cli.app import run_command
from edgevlm.errors import CheckpointError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from tests import oracles
from tests.export.encoders import tiny_sam_clip
from tests.export.vlm.conversations import picture

TEXTS = ["a photo of a Boat", "red", "two people, seen from behind"]
CASES: dict[str, dict[str, Any]] = {
    "wide": {"points": [[[100, 20]]]},
    "tall": {"boxes": [[3, 20, 50, 150], [10, 0, 60, 31]]},
    "small": {"points": [[[3, 4], [20, 28]]], "labels": [[1, 0]]},
}


@dataclass(frozen=True)
class Shown:
    """One export, and the answers of both sides."""

    exported: Exported
    source: list[dict[str, np.ndarray]]
    bundle: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["max", "mean"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Export, and ask both sides."""
    root = tmp_path_factory.mktemp("sam-clip")
    model = tiny_sam_clip.sam_clip(root / "checkpoint", request.param)
    exported = export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    cases = [
        {"image": picture(root, name), "prompts": prompts, "texts": TEXTS}
        for name, prompts in CASES.items()
    ]
    (root / "questions.json").write_text(json.dumps(cases))
    oracles.run(
        "tests.export.encoders.mask_answers",
        root / "bundle", root / "questions.json", root / "bundle.npz", oracles=False,
    )  # fmt: skip
    source = [tiny_sam_clip.source_answers(model, c["image"], c["prompts"], TEXTS) for c in cases]
    return Shown(exported, source, dict(np.load(root / "bundle.npz")))


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_one_pass_gives_what_every_part_gives_by_itself(shown: Shown, number: int):
    names = ("image_embeddings", "embedding", "patch_embeds", "features", "chances", "patch_map")
    masks = [f"{several}.{name}" for several in (True, False) for name in ("logits", "scores")]
    for name in (*names, *masks):
        found, wanted = shown.bundle[f"{number}.{name}"], shown.source[number][name]
        assert found.shape == wanted.shape, name
        assert np.abs(found - wanted).max() < 1e-4, name


@pytest.mark.parametrize("name", list(CASES))
def test_every_pixel_gets_its_best_label(shown: Shown, name: str):
    """Against torch: the patches' logits brought to the encoder's input, cut out, and resized."""
    labels = ["boat", "water", "sky"]
    root, spec = shown.exported.target.parent, shown.exported.manifest.text
    with edgevlm.load(root / "bundle", threads=1, spin=False) as model:
        encoded = model.encode(picture(root, name))
        found = model.segment(encoded, labels)
        texts = model.encode_text([spec.template.replace("{}", label) for label in labels])
    side, (size, _, _) = found.logits.shape[-1], encoded.pixels[0].shape
    wanted = spec.logit_scale * encoded.outputs["patch_embeds"][0] @ texts.T
    wanted = torch.from_numpy(wanted.T.reshape(1, 3, side, side))
    wanted = torch.nn.functional.interpolate(wanted, (size, size), mode="bilinear")
    height, width = encoded.extent
    wanted = wanted[..., :height, :width]
    wanted = torch.nn.functional.interpolate(wanted, encoded.source, mode="bilinear")[0]
    ordered = wanted.sort(0, descending=True)
    clear = (ordered.values[0] - ordered.values[1] > 1e-3).numpy()
    assert found.label_map.shape == encoded.source
    assert clear.mean() > 0.9
    assert (found.label_map == ordered.indices[0].numpy())[clear].all()
    assert sum(found.shares().values()) == pytest.approx(1)
    assert found.mask("sky").mean() == pytest.approx(found.shares()["sky"])


def test_the_certificate_compares_every_head(shown: Shown):
    certificate = shown.exported.certificate
    assert certificate.reference.startswith("SAM and CLIP of transformers")
    found = certificate.backends[0]
    assert {stage.stage for stage in found.stages} == {
        "vision.image_embeddings", "vision.embedding", "vision.patch_embeds", "vision.features",
        "mask.masks", "mask.scores", "text.text_embeds",
    }  # fmt: skip
    assert all(stage.max_abs < 1e-4 for stage in found.stages)


def test_a_configuration_without_a_section_is_refused(tmp_path: Path):
    tiny_sam_clip.sam_clip(tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / "config.json"
    settings = json.loads(path.read_text())
    for key, change, says in (
        ("mask_config", {}, "lacks prompt_encoder_config, mask_decoder_config"),
        ("head_config", {**settings["head_config"], "pool": "last"}, "pools by 'last'"),
        ("vision_config", {**settings["vision_config"], "image_size": "big"}, "SamVisionConfig"),
    ):
        path.write_text(json.dumps({**settings, key: change}))
        with pytest.raises(CheckpointError, match=says):
            export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions())


def test_the_command_draws_labels_over_the_picture(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path, target = picture(tmp_path, "wide"), tmp_path / "labels.png"
    names = ["sky", "grass", "a boat"]
    words = ["segment", str(shown.exported.target), path, "-o", str(target), "--json"]
    given = [word for name in names for word in ("--label", name)]
    assert run_command([*words, *given]) == 0
    said = {one["label"]: one["share"] for one in json.loads(capsys.readouterr().out)["labels"]}
    assert sum(said.values()) == pytest.approx(1, abs=1e-3)
    with edgevlm.load(shown.exported.target, threads=2, spin=False) as model:
        found = model.segment(path, names)
    assert said == {name: round(share, 4) for name, share in found.shares().items()}
    with Image.open(path) as before, Image.open(target) as after:
        assert before.size == after.size
        assert np.abs(np.asarray(after, int) - np.asarray(before.convert("RGB"))).mean() > 5
