"""Folders of graphs that take pictures, as bundles: held against transformers and its processor."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgevlm
from edgevlm.bundle import open_bundle
from edgevlm.config import make_config
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from tests import oracles
from tests.export.vlm import conversations, tiny
from tests.export.vlm.test_chat_families import CASES

BLIND = "ort-cpu: not compared with its source model"


def llava_qwen2(folder: Path) -> None:
    """FastVLM, made in a process that can import timm."""
    oracles.run("tests.export.vlm.tiny", folder, "folded")


MODELS: dict[str, Callable[[Path], Any]] = {
    "smolvlm": tiny.smolvlm,
    "llava_qwen2": llava_qwen2,
    "internvl": tiny.internvl,
}


@pytest.fixture(
    scope="module",
    params=["smolvlm", "llava_qwen2", pytest.param("internvl", marks=pytest.mark.slow)],
)
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Checkpoint, folder of graphs, bundle of it, and the answers of both ends."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "llava_qwen2":
            patch.setenv("PYTHONPATH", oracles.search_path())
        MODELS[request.param](root / "checkpoint")
        export(str(root / "checkpoint"), root / "folder", ExportOptions(layout="hf"))
    if request.param == "llava_qwen2":
        flat(root / "folder" / "config.json")
    export(str(root / "folder"), root / "bundle")
    asked = conversations.write(root / "asked")
    oracles.run("tests.export.vlm.source_answers", root / "checkpoint", asked, root / "source.npz")
    oracles.run(
        "tests.export.vlm.bundle_answers", root / "bundle", asked, root / "bundle.npz",
        oracles=False,
    )  # fmt: skip
    return open_bundle(root / "bundle"), np.load(root / "source.npz"), np.load(root / "bundle.npz")


def flat(path: Path) -> None:
    """The configuration as FastVLM's authors write it."""
    nested = json.loads(path.read_text())
    kept = {k: v for k, v in nested["text_config"].items() if k != "model_type"}
    others = {"model_type": "llava_qwen2", "mm_hidden_size": 3072, "image_aspect_ratio": "pad"}
    path.write_text(
        json.dumps({**kept, **others, "image_token_index": nested["image_token_index"]})
    )


def torch_exports(model: Any, path: Path) -> None:
    """The same encoder as torch's own exporter writes it, which takes no mask."""

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.model

        def forward(self, pixel_values: torch.Tensor) -> Any:
            vision = self.model.vision_model
            tiles = pixel_values.flatten(0, 1)
            patches = vision.embeddings.patch_embedding(tiles).flatten(2).transpose(1, 2)
            rows = patches + vision.embeddings.position_embedding.weight[None]
            encoded = vision.encoder(inputs_embeds=rows).last_hidden_state
            return self.model.connector(vision.post_layernorm(encoded))

    dynamic = {"pixel_values": {0: "batch_size", 1: "num_images"}, "image_features": {0: "n"}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder(), (torch.zeros(1, 3, 3, 48, 48),), path, input_names=["pixel_values"],
            output_names=["image_features"], dynamic_axes=dynamic, opset_version=18, dynamo=False,
        )  # fmt: skip


@pytest.mark.parametrize("pictures", ["smolvlm"], indirect=True)
def test_an_encoder_that_torch_exported_is_certified(pictures: Any, tmp_path: Path):
    root = pictures[0].root.parent
    shutil.copytree(root / "folder", tmp_path / "folder")
    source = root / "checkpoint"
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager"
    )
    torch_exports(model.eval(), tmp_path / "folder" / "onnx" / "vision_encoder.onnx")
    done = export(str(tmp_path / "folder"), tmp_path / "bundle", ExportOptions(reference=source))
    found = done.certificate.backends[0]
    assert done.certificate.reference.startswith("transformers ")
    assert [(s.stage, s.passed) for s in found.stages] == [("vision.visual_tokens", True)]
    assert done.manifest is not None
    assert done.manifest.parity is not None
    assert done.manifest.parity.passed


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_an_imported_bundle_answers_as_transformers_does(pictures: Any, number: int):
    _, source, bundle = pictures
    np.testing.assert_array_equal(bundle[f"{number}.ids"], source[f"{number}.ids"])
    assert np.abs(bundle[f"{number}.logits"] - source[f"{number}.logits"]).max() < 1e-3
    np.testing.assert_array_equal(bundle[f"{number}.tokens"], source[f"{number}.tokens"])


def test_an_imported_vision_graph_takes_uint8_tiles(pictures: Any):
    bundle, _, _ = pictures
    entry = bundle.manifest.graphs["vision"]
    assert [(t.name, t.dtype) for t in entry.inputs] == [("image", "uint8")]
    assert [(t.name, t.dtype) for t in entry.outputs] == [("visual_tokens", "float32")]
    assert set(bundle.manifest.source.parts) == {
        f"{name}.onnx" for name in ("vision_encoder", "embed_tokens", "decoder_model_merged")
    }
    assert bundle.manifest.parity.degraded == (BLIND,)


def test_every_event_of_such_a_bundle_says_so(pictures: Any):
    bundle, _, _ = pictures
    config = make_config(
        {
            "bundle": str(bundle.root),
            "ask": "What?",
            "source": {"uri": "synthetic:?seed=1&fps=5&frames=1&size=64x48"},
            "generation": {"max_tokens": 2},
        }
    )
    first = next(iter(edgevlm.run(config)))
    assert first.degraded == (f"parity: {BLIND}",)
