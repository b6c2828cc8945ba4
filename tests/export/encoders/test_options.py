"""Encoders at other sizes and in other precisions, and checkpoints that do not hold together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevlm.bundle.images import ImageSpec, NativePatches
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.square_picture import square_fit
from edgevlm.export.pipeline import export, gather
from edgevlm.export.towers.positions import resized_table
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.pictures import prepare
from tests.export.encoders import tiny
from tests.export.vlm import conversations


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """A checkpoint, to be exported in several ways."""
    return tiny.clip(tmp_path_factory.mktemp("clip") / "checkpoint")


@pytest.mark.parametrize(("family", "size"), [("clip", 63), ("dinov2", 36), ("siglip2", 27)])
def test_another_image_size_moves_the_positions(tmp_path: Path, family: str, size: int):
    made = getattr(tiny, family)(tmp_path / "checkpoint")
    export(str(made.folder), tmp_path / "bundle", ExportOptions(image_size=size))
    path = conversations.picture(tmp_path, "wide")
    changes: dict[str, Any] = {"max_num_patches": (size // 9) ** 2}
    if family != "siglip2":
        short = round(made.processor.size["shortest_edge"] * size / 45)
        changes = {"size": {"shortest_edge": short}, "crop_size": {"height": size, "width": size}}
    inputs = made.processor(images=Image.open(path), return_tensors="pt", **changes)
    extra = {"interpolate_pos_encoding": True} if family == "clip" else {}
    with torch.inference_mode():
        seen = getattr(made.model, "vision_model", made.model)(**inputs, **extra)
    with load(tmp_path / "bundle", threads=2, spin=False) as model:
        found = model.encode(path).outputs["pooled"]
    scale = max(1.0, float(seen.pooler_output.abs().max()))
    np.testing.assert_allclose(found, seen.pooler_output.numpy(), atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_smaller_weights_keep_their_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
):
    monkeypatch.setattr(tiny, "TEXT_CONFIG", {**tiny.TEXT_CONFIG, "hidden_size": 96})
    monkeypatch.setattr(
        tiny, "VISION_CONFIG",
        {**tiny.VISION_CONFIG, "hidden_size": 64, "intermediate_size": 96,
         "num_attention_heads": 4},
    )  # fmt: skip
    made = tiny.clip(tmp_path / "checkpoint", spread=2.0)  # far from the gates on any processor
    done = export(str(made.folder), tmp_path / "bundle", ExportOptions(precision=precision))
    kept = {"int4": "int8"}.get(precision, precision)  # 4 bits are for decoders
    assert {graph.precision for graph in done.manifest.graphs.values()} == {kept}
    table = done.manifest.weights["text.tokens"]
    assert table.values.dtype == {"fp16": "float16", "int8": "uint8"}[kept]
    if kept == "int8":
        assert done.manifest.weights["vision.blocks.0.attn.qkv"].bits == 8
    found = done.certificate.backends[0]
    assert found.misses == ()
    assert len(found.stages) == 4


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(7, 5), (5, 9), (37, 16), (4, 4)])
def test_position_tables_are_resized_as_torch_does_it(old: int, new: int, antialias: bool):
    table = torch.randn(old * old, 6, generator=torch.Generator().manual_seed(old))
    grid = table.reshape(1, old, old, 6).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(
        grid, size=(new, new), mode="bicubic", align_corners=False, antialias=antialias
    )
    found = resized_table(table.numpy(), new, antialias=antialias)
    np.testing.assert_allclose(
        found, wanted.permute(0, 2, 3, 1).reshape(new * new, 6).numpy(), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 4}, "--tokens: clip is an encoder without a language model"),
        ({"compressor": "grid", "max_context": 9}, "--compressor, --max-context: clip is"),
        ({"image_size": 50}, "--image-size 50: this encoder takes a multiple of 9"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_do_not_fit_are_refused(
    clip: tiny.Tiny, options: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        gather(str(clip.folder), ExportOptions(**options))


def change(folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Change keys of a JSON file, one level deep."""
    path = folder / name
    found = json.loads(path.read_text())
    for key, value in changes.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("preprocessor_config.json", None, "neither preprocessor_config.json nor an image"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("config.json", {"text_config": {"eos_token_id": 7}}, r"end token \(7\).*with \[399\]"),
        ("config.json", {"text_config": {"vocab_size": 390}}, "has 400 tokens and the text enc"),
        ("config.json", {"text_config": {"hidden_act": "mish"}}, "'mish' is not supported"),
        ("config.json", {"vision_config": {"image_size": 54}}, "45 pixels.*say which with --image"),
        ("preprocessor_config.json", {"do_center_crop": False}, "pictures would differ in size"),
        ("preprocessor_config.json", {"do_resize": False}, "does not resize"),
    ],
    ids=["processor", "tokenizer", "end", "vocabulary", "activation", "size", "crop", "resize"],
)
def test_checkpoints_that_do_not_hold_together_are_refused(
    clip: tiny.Tiny, tmp_path: Path, file: str, changes: dict[str, Any] | None, message: str
):
    folder = Path(shutil.copytree(clip.folder, tmp_path / "checkpoint"))
    if changes is None:
        for path in (folder / file, *folder.glob("vocab.*"), *folder.glob("merges.*")):
            path.unlink(missing_ok=True)
    else:
        change(folder, file, changes)
    with pytest.raises(CheckpointError, match=message):
        gather(str(folder), ExportOptions())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"height": 40, "width": 50}}, "no square of one size"),
        ({"size": {"longest_edge": 40}}, "no square of one size"),
        ({"size": 40, "crop_size": {"height": 40, "width": 30}}, "only squares"),
        ({"size": {"height": 50, "width": 50}, "crop_size": 45}, "only shortest_edge before a cut"),
    ],
    ids=["oblong", "longest", "oblong cut", "cut of a square"],
)
def test_processors_that_make_no_square_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(CheckpointError, match=message):
        square_fit(settings, 45, crops=True, chosen=None, patch=9)


def test_a_bare_number_is_the_shorter_side_as_in_old_settings():
    fit = square_fit({"size": 52, "crop_size": 45}, 45, crops=True, chosen=None, patch=9)
    assert (fit.height, fit.width, fit.fit, fit.shortest) == (45, 45, "shortest", 52)


@pytest.mark.parametrize("most", [1, 30, 256])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 900), (203, 331), (480, 640), (37, 2110), (4000, 3000)], ids=str
)
def test_patches_are_counted_as_the_processor_does_it(size: tuple[int, int], most: int):
    from transformers.models.siglip2 import image_processing_pil_siglip2 as source

    wanted = source.get_image_size_for_max_num_patches(*size, 9, most)
    policy = NativePatches(patch=9, most_patches=most, table_side=4)
    spec = ImageSpec(policy=policy, resample="bilinear")
    prepared = prepare(np.zeros((*size, 3), np.uint8), spec)
    assert prepared.pixels[0].shape[:2] == wanted
    assert prepared.token_grid == (wanted[0] // 9, wanted[1] // 9)
