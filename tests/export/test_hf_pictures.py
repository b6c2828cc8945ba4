"""Folders of graphs that take pictures, as bundles: held against transformers and its processor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
