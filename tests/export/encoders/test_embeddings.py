"""Every family of encoders: a tiny random checkpoint, its bundle, and transformers, alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevlm.bundle.static_cache import ONNX_STD
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from tests import oracles
from tests.export.encoders import tiny
from tests.export.targets import lowered
from tests.export.vlm import conversations

FAMILIES: dict[str, Callable[[Path], tiny.Tiny]] = {
    "clip": tiny.clip,
    "clip pooled at the largest id": lambda folder: tiny.clip(folder, end=2),
    "clip's vision tower": tiny.clip_vision,
    "clip from vocab.json": tiny.clip_vocabulary,
    "siglip": tiny.siglip,
    "siglip from spiece.model": tiny.siglip_sentencepiece,
    "siglip2": tiny.siglip2,
    "dinov2": tiny.dinov2,
    "dinov2 swiglu": lambda folder: tiny.dinov2(folder, swiglu=True),
    "dinov2 registers": lambda folder: tiny.dinov2(folder, registers=True),
}
TEXTS = ["a photo of a boat", "Two PEOPLE, there", "red", "a hat."]
SHAPES = tuple(conversations.SHAPES)


@dataclass(frozen=True)
class Shown:
    """One family: its export, and what both sides gave."""

    made: tiny.Tiny
    exported: Exported
    source: dict[str, np.ndarray]
    bundle: dict[str, np.ndarray]


def source_values(made: tiny.Tiny, images: dict[str, str]) -> dict[str, np.ndarray]:
    """Pixels, outputs and probabilities of the model behind its own processor."""
    found: dict[str, Any] = {}
    texts = {} if made.texts is None else made.texts(TEXTS)
    for name, path in images.items():
        picture = made.processor(images=Image.open(path), return_tensors="pt")
        found[f"{name}.pixels"] = picture["pixel_values"]
        with torch.inference_mode():
            seen = made.model(**picture, **texts)
            inner = getattr(made.model, "vision_model", made.model)(**picture)
        found[f"{name}.pooled"] = inner.pooler_output
        found[f"{name}.features"] = inner.last_hidden_state
        if texts:
            found[f"{name}.embedding"], found["text_embeds"] = seen.image_embeds, seen.text_embeds
            logits = seen.logits_per_image[0]
            clip = made.model.config.model_type == "clip"
            found[f"{name}.chances"] = logits.softmax(-1) if clip else torch.sigmoid(logits)
        elif "image_embeds" in seen:
            length = seen.image_embeds.norm(dim=-1, keepdim=True)
            found[f"{name}.embedding"] = seen.image_embeds / length
    return {name: value.numpy() for name, value in found.items()}


@pytest.fixture(scope="module", params=list(FAMILIES))
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Export one family and show both sides the same."""
    root = tmp_path_factory.mktemp("encoder")
    made = FAMILIES[request.param](root / "checkpoint")
    exported = export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    images = {name: conversations.picture(root, name) for name in SHAPES}
    cases = root / "cases.json"
    cases.write_text(json.dumps({"images": images, "texts": TEXTS if made.texts else []}))
    oracles.run(
        "tests.export.encoders.bundle_embeddings", root / "bundle", cases, root / "found.npz",
        oracles=False,
    )  # fmt: skip
    return Shown(made, exported, source_values(made, images), dict(np.load(root / "found.npz")))


@pytest.mark.parametrize("name", SHAPES)
def test_outputs_are_those_of_transformers(shown: Shown, name: str):
    outputs = [t.name for t in shown.exported.manifest.graphs["vision"].outputs]
    assert "features" in outputs
    for output in outputs:
        source, found = (side[f"{name}.{output}"] for side in (shown.source, shown.bundle))
        if output == "features":  # of rows that transformers fills up
            source = source[:, : found.shape[1]]
        scale = max(1.0, float(np.abs(source).max()))
        np.testing.assert_allclose(found, source, atol=1e-4 * scale, rtol=0, err_msg=output)


@pytest.mark.parametrize("name", SHAPES)
def test_pixels_are_those_of_the_processor(shown: Shown, name: str):
    processor, found = shown.made.processor, shown.bundle[f"{name}.pixels"].astype(np.float32)
    mean, std = (np.array(v, np.float32) for v in (processor.image_mean, processor.image_std))
    source = shown.source[f"{name}.pixels"][0]
    if source.ndim == 2:  # rows of patches, filled up with zeros
        rows, columns, patch = found.shape[0] // 9, found.shape[1] // 9, 9
        cells = source[: rows * columns].reshape(rows, columns, patch, patch, 3)
        source = cells.transpose(0, 2, 1, 3, 4).reshape(rows * patch, columns * patch, 3)
    else:
        source = source.transpose(1, 2, 0)
    assert np.abs((source * std + mean) * 255 - found).max() < 2


def test_texts_and_probabilities_are_those_of_transformers(shown: Shown):
    if shown.made.texts is None:
        assert "text" not in shown.exported.manifest.graphs
        return
    source, found = shown.source["text_embeds"], shown.bundle["text_embeds"]
    np.testing.assert_allclose(found, source, atol=1e-4, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for name in SHAPES:
        chances = shown.bundle[f"{name}.chances"]
        np.testing.assert_allclose(chances, shown.source[f"{name}.chances"], atol=1e-4, rtol=0)
        assert np.ptp(chances) > 1e-4


def test_lowered_for_engines_every_output_is_the_same(shown: Shown, tmp_path: Path):
    found = lowered.certified(shown.exported.target, ONNX_STD, tmp_path)
    assert found.misses == ()
    before = shown.exported.certificate.backends[0]
    worst = {stage.stage: stage.max_abs for stage in before.stages}
    assert {stage.stage for stage in found.stages} == worst.keys()
    assert all(s.max_abs <= max(1e-4, 2 * worst[s.stage]) for s in found.stages)


def test_the_certificate_compares_every_output(shown: Shown):
    manifest, certificate = shown.exported.manifest, shown.exported.certificate
    assert certificate.reference.startswith("transformers ")
    found = certificate.backends[0]
    wanted = {f"{g}.{t.name}" for g, entry in manifest.graphs.items() for t in entry.outputs}
    assert {stage.stage for stage in found.stages} == wanted
    assert found.misses == ()
    assert all(stage.gate_cosine == 0.99999 for stage in found.stages)
    assert manifest.decoder is manifest.prompt is manifest.kv is None
