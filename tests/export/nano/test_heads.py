"""nano's trained heads: numpy and graphs against the torch modules that are trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano import mask_head, neck, queries, recipe, semantic
from edgevlm.export.nano.heads import FILE, Heads, read_heads
from edgevlm.export.nano.mask_graph import lower_masks
from edgevlm.export.nano.vision import NanoVision
from edgevlm.export.nano_train import heads as torch_heads
from edgevlm.export.nano_train import mask_head as torch_masks
from edgevlm.export.nano_train import shape
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.probe import probe_picture
from edgevlm.export.progress import Progress
from edgevlm.export.reference.efficientnet import forward
from edgevlm.runtime.model.load import open_backend
from tests.export.nano.trained import random_heads, write_heads

torch.set_num_threads(2)
Trunk = torch_heads.Trunk
FOUND = ("embedding", "patch_embeds", "image_embeddings", "visual_tokens")


@pytest.fixture(scope="module")
def trained() -> torch_heads.NanoHeads:
    return random_heads()


@pytest.fixture(scope="module")
def folder(trained: torch_heads.NanoHeads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights")
    write_heads(path, trained)
    return path


@pytest.fixture(scope="module")
def heads(folder: Path) -> Heads:
    return read_heads(folder)


@pytest.fixture(scope="module")
def vision(heads: Heads) -> NanoVision:
    found, *_ = recipe.gather(ExportOptions()).parts
    assert isinstance(found, NanoVision)
    return replace(found, heads=heads)


def torch_outputs(
    trained: torch_heads.NanoHeads, vision: NanoVision, image: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """What the modules give, over the encoder and the guess that other tests hold against torch."""
    blocks = forward(vision.net, image)
    trunk = Trunk(
        *(torch.from_numpy(blocks[n])[None] for n in (neck.FINE_BLOCK, neck.MIDDLE_BLOCK, -1))
    )
    flat = blocks[-1].reshape(len(blocks[-1]), -1)
    tokens = []
    with torch.inference_mode():
        cells = trained.neck(trunk)
        for side in torch_heads.SIDES:
            pool = recipe.GridPool(side * side).matrix(len(image) // 32)
            guess = torch.from_numpy(vision.connector.apply((flat @ pool).T))[None]
            tokens.append(trained.connector(cells, guess, side)[0])
        return {
            "embedding": trained.semantic.pictures(cells).numpy(),
            "patch_embeds": trained.semantic.cells(cells).numpy(),
            "image_embeddings": trained.mask.embed(trunk.fine, cells).numpy(),
            "visual_tokens": torch.cat(tokens).numpy(),
        }


@pytest.mark.parametrize("size", [224, 320])
def test_the_vision_graph_gives_what_torch_gives(
    trained: torch_heads.NanoHeads, vision: NanoVision, tmp_path: Path, size: int
):
    image, sized = probe_picture(size, size), replace(vision, image_size=size)
    sized.lower(tmp_path, PrecisionPlan(default="fp32"), Progress(1))
    graph = open_backend("ort-cpu", threads=2, spin=False).load(tmp_path / "vision.onnx")
    found, plain = graph.run({"image": image}), sized.reference(image)
    graph.close()
    assert found.keys() == plain.keys()
    for name, wanted in torch_outputs(trained, sized, image).items():
        assert found[name].shape == plain[name].shape == wanted.shape
        assert np.abs(wanted).max() > 0.1
        assert np.abs(plain[name] - wanted).max() < 1e-4, name
        assert np.abs(found[name] - wanted).max() < 1e-4, name


@pytest.mark.parametrize("side", queries.SIDES)
def test_windows_and_positions_are_those_of_the_training(trained: torch_heads.NanoHeads, side: int):
    """At every grid of every picture size: centres of cells lie on edges of windows."""
    table = trained.connector.rows.detach()
    for grid in range(14, 29, 2):
        wanted = torch_heads.windows(side, grid).numpy()
        assert np.array_equal(queries.windows(side, grid), wanted)
        assert wanted.any(1).all()
        rows = torch_heads._stretched(table, grid).numpy()
        assert np.abs(queries.stretched(table.numpy(), grid) - rows).max() < 1e-6


def test_the_sizes_of_both_sides_are_one():
    t, m = torch_heads, torch_masks
    assert (neck.WIDTH, neck.FINE, neck.MIDDLE, neck.COARSE) == (
        shape.WIDTH, shape.FINE, shape.MIDDLE, shape.COARSE,
    )  # fmt: skip
    assert (semantic.HIDDEN, semantic.ALIGNED) == (t.HIDDEN, t.ALIGNED)
    assert (queries.SIDES, queries.GRID, queries.HEADS) == (t.SIDES, t.GRID, t.HEADS)
    assert (mask_head.LOOKED, mask_head.POINT_SIGMA) == (m.MASK_WIDTH, m.POINT_SIGMA)


@pytest.mark.parametrize("size", [224, 320])
def test_masks_of_points_and_boxes_are_those_of_torch(
    trained: torch_heads.NanoHeads, heads: Heads, tmp_path: Path, size: int
):
    side = size // mask_head.STRIDE
    generator = torch.Generator().manual_seed(size)
    embeddings = torch.randn((1, mask_head.EMBEDDED, side, side), generator=generator)
    points = torch.rand((7, 3, 2), generator=generator)
    points[4:, :2] = points[4:, :2].sort(1).values  # corners
    labels = torch.tensor(
        [[1, -1, -1], [1, 1, 0], [1, 0, -10], [0, -1, -1], [2, 3, -10], [2, 3, 1], [2, 3, 0]]
    )
    with torch.inference_mode():
        masks, scores = trained.mask(embeddings.expand(7, -1, -1, -1), points, labels)
    plain = heads.mask.apply(embeddings[0].numpy(), points.numpy(), labels.numpy())
    with DataFile(tmp_path / "mask.onnx.data") as data:
        g = GraphBuilder("mask", data)
        lower_masks(g, heads.mask, size)
        g.save(tmp_path / "mask.onnx")
    graph = open_backend("ort-cpu", threads=1, spin=False).load(tmp_path / "mask.onnx")
    found = graph.run({
        "image_embeddings": embeddings.numpy(), "points": points.numpy() * np.float32(size),
        "labels": labels.numpy(),
    })  # fmt: skip
    graph.close()
    assert masks.abs().max() > 1
    for logits, chances in (plain, (found["masks"][:, 0], found["scores"][:, 0])):
        assert np.abs(logits - masks.numpy()).max() < 1e-4
        assert np.abs(chances - scores.numpy()).max() < 1e-5


def test_texts_are_those_of_torch(trained: torch_heads.NanoHeads, heads: Heads):
    words = torch.randn((5, semantic.HIDDEN), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted = trained.semantic.texts(words).numpy()
        scale = trained.semantic.scale.exp().item()
    assert np.abs(heads.semantic.texts(words.numpy()) - wanted).max() < 1e-5
    assert heads.semantic.logit_scale == pytest.approx(scale)


def test_the_tokens_that_reach_the_decoder_are_the_budgets(vision: NanoVision):
    visual = recipe._visual_tokens(vision)
    assert visual.count == 16
    counts = [budget.count for budget in visual.budgets]
    assert counts == [side * side for side in torch_heads.SIDES]
    rows = np.arange(sum(counts))
    taken = [rows[visual.rows(count)] for count in counts]
    assert np.array_equal(np.concatenate(taken), rows)
    assert np.array_equal(rows[visual.rows()], taken[3])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ExportOptions(tokens=25), r"--tokens 25: nano was trained for 1, 4, 9, 16, 49"),
        (ExportOptions(tokens=5), "a square number"),
        (ExportOptions(image_size=192), "a multiple of 32 from 224 to 448"),
        (ExportOptions(image_size=480), "a multiple of 32 from 224 to 448"),
        (ExportOptions(image_size=230), "a multiple of 32 from 224 to 448"),
    ],
)
def test_what_nano_was_not_trained_for_is_refused(folder: Path, options: ExportOptions, says: str):
    with pytest.raises(ConfigError, match=says):
        recipe.gather(replace(options, weights=folder))


def without(state: dict[str, torch.Tensor]) -> None:
    del state["semantic.text_up.bias"]


def another_shape(state: dict[str, torch.Tensor]) -> None:
    state["connector.queries"] = state["connector.queries"][:16].contiguous()


def one_more(state: dict[str, torch.Tensor]) -> None:
    state["neck.blocks.3.up.bias"] = torch.zeros(3)


def infinite(state: dict[str, torch.Tensor]) -> None:
    state["mask.mix.bias"][1] = torch.inf


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without, "lacks semantic.text_up.bias: fetch the package again, or train it"),
        (another_shape, r"connector.queries has the shape \(16, 192\), not \(79, 192\)"),
        (one_more, "1 tensors that nano does not know, such as neck.blocks.3.up.bias"),
        (infinite, "mask.mix.bias holds values that are not finite"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], says: str
):
    state = load_file(folder / FILE)
    change(state)
    save_file(state, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=says):
        read_heads(tmp_path)


def test_a_file_that_is_missing_or_cut_off_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"heads\.safetensors, which nano was trained to"):
        read_heads(tmp_path)
    shutil.copy(folder / FILE, tmp_path)
    with (tmp_path / FILE).open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(CheckpointError, match="is truncated"):
        read_heads(tmp_path)
