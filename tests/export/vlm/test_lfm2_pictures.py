"""LFM2-VL's pictures against transformers' own processor, which resizes with torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevlm.bundle.images import ImageSpec, Lfm2Tiles
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.lfm2_vl import FAMILY
from edgevlm.runtime.model.pictures import prepare
from edgevlm.runtime.model.pictures.internvl import nearest_grid
from edgevlm.runtime.model.pictures.interpolate import antialiased_matrix
from tests import oracles
from tests.export.vlm import tiny

SHAPES = {
    "small": (29, 31), "one pixel": (1, 1), "photo": (331, 203), "thin": (11, 900),
    "at the edge": (723, 725), "large": (701, 1303), "tall": (1500, 401), "wide": (300, 2101),
}  # fmt: skip
KINDS = {"tiles": (True, True), "whole pictures": (False, True), "no thumbnail": (True, False)}
PATCH = 16


def picture(height: int, width: int) -> np.ndarray:
    """Gradients, an edge and grain."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([255 * x / width, 255 * y / height, 200 * ((x // 37 + y // 23) % 2)], -1)
    grain = np.random.default_rng(height).normal(0, 20, base.shape)
    return np.clip(base + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What the processor makes of the pictures, for every kind of settings."""
    root = tmp_path_factory.mktemp("pictures")
    settings = {
        kind: {"do_image_splitting": split, "use_thumbnail": small, "max_image_tokens": 200}
        for kind, (split, small) in KINDS.items()
    }
    (root / "settings.json").write_text(json.dumps(settings))
    np.savez(root / "pictures.npz", **{name: picture(*shape) for name, shape in SHAPES.items()})
    oracles.run(
        "tests.export.vlm.lfm2_pixels", root / "settings.json", root / "pictures.npz",
        root / "out.npz",
    )  # fmt: skip
    return dict(np.load(root / "out.npz"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_are_within_two_grey_levels_and_tiles_the_same(
    wanted: dict[str, np.ndarray], shape: str, kind: str
):
    split, thumbnail = KINDS[kind]
    policy = Lfm2Tiles(
        tile=512, least=2, most=10, split=split, thumbnail=thumbnail, patch=PATCH, merge=2,
        least_tokens=64, most_tokens=200, table_side=16,
    )  # fmt: skip
    prepared = prepare(picture(*SHAPES[shape]), ImageSpec(policy=policy, resample="bilinear"))
    name = f"{kind}.{shape}"
    grids = [(t.shape[0] // PATCH, t.shape[1] // PATCH) for t in prepared.pixels]
    assert grids == [tuple(grid) for grid in wanted[f"{name}.spatial_shapes"].tolist()]
    cut = (max(prepared.rows, 1), max(prepared.columns, 1))
    assert cut == (wanted[f"{name}.image_rows"].item(), wanted[f"{name}.image_cols"].item())
    for n, tile in enumerate(prepared.pixels):
        inside = wanted[f"{name}.pixel_attention_mask"][n] == 1
        patches = wanted[f"{name}.pixel_values"][n][inside].astype(int)
        high, wide = grids[n]
        found = tile.reshape(high, PATCH, wide, PATCH, 3).transpose(0, 2, 1, 3, 4)
        assert np.abs(found.reshape(high * wide, -1) - patches).max() <= 2


@pytest.mark.parametrize("sizes", [(16, 16), (16, 32), (16, 7), (16, 45), (5, 3), (5, 1), (16, 2)])
def test_the_resampling_matrix_is_torchs_antialiased_bilinear(sizes: tuple[int, int]):
    source, target = sizes
    table = np.random.default_rng(0).normal(size=(source, source, 3)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(table).permute(2, 0, 1)[None], size=(target, 9), mode="bilinear",
        align_corners=False, antialias=True,
    )  # fmt: skip
    rows, columns = antialiased_matrix(source, target), antialiased_matrix(source, 9)
    found = np.einsum("ah,bw,hwd->dab", rows, columns, table)
    np.testing.assert_allclose(found, wanted[0].numpy(), atol=2e-6)


def test_of_grids_that_are_equally_near_it_takes_the_one_that_the_processor_takes():
    """The processor sorts a set by area alone: its order within one area is the interpreter's."""
    ratios = {
        (w, h)
        for n in range(2, 11)
        for w in range(1, n + 1)
        for h in range(1, n + 1)
        if 2 <= w * h <= 10
    }
    ordered = sorted(ratios, key=lambda grid: grid[0] * grid[1])
    shapes = [(h, w) for h in range(40, 1400, 60) for w in range(40, 1400, 20)]
    for height, width in [*shapes, (400, 1000), (1000, 400), (800, 1000), (1000, 800)]:
        nearest = min(abs(width / height - w / h) for w, h in ordered)
        best = [g for g in ordered if abs(width / height - g[0] / g[1]) == nearest]
        first, *others = best
        for grid in others:
            if height * width > 0.5 * 512**2 * grid[0] * grid[1]:
                first = grid
        assert nearest_grid(height, width, 512, 2, 10) == first


def _vision(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["vision_config"].update(changes)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", _vision(patch_size=16), r"are \(8, 2\) for the processor and \(16, 2\)"),
        ("config.json", _vision(hidden_act="mish"), "activation 'mish' is not known"),
        ("config.json", _vision(model_type="siglip_vision_model"), "siglip_vision_model is not"),
        ("preprocessor_config.json", {"tile_size": 40}, "tile_size 40 is no multiple of 16"),
        ("preprocessor_config.json", {"min_tiles": 1}, "say min_tiles 2"),
    ],
)
def test_what_does_not_hold_together_is_refused(
    tmp_path: Path, name: str, change: Any, message: str
):
    folder = tiny.lfm2_vl(tmp_path / "checkpoint").folder
    content = json.loads((folder / name).read_text())
    if callable(change):
        change(content)
    else:
        content.update(change)
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        FAMILY.gather(Checkpoint(folder), ExportOptions())


def test_an_image_size_is_a_budget_without_tiles(tmp_path: Path):
    folder = tiny.lfm2_vl(tmp_path / "checkpoint").folder
    parts = FAMILY.gather(Checkpoint(folder), ExportOptions(image_size=48))
    assert parts.image is not None
    assert parts.visual_tokens is not None
    prepared = prepare(picture(300, 500), parts.image)
    assert len(prepared.pixels) == 1
    assert prepared.pixels[0].shape == (32, 48, 3)
    assert parts.visual_tokens.count == 9 + 2
