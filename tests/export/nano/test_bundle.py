"""nano's heads and adapter in a bundle: budgets, texts, segmentations and masks as users ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import edgevlm
from edgevlm.bundle import Bundle
from edgevlm.bundle.images import Fit
from edgevlm.cli.app import run_command
from edgevlm.errors import ConfigError, ContractError
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano.heads import FILE
from edgevlm.export.nano.packages import DECODER
from edgevlm.export.nano_train.heads import NanoHeads
from edgevlm.runtime.model.certify import certify
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm

COUNTS = (1, 4, 9, 16, 49)
LABELS = ("cat", "wooden table", "pressure gauge", "Tisch")
MB = 1_000_000


@pytest.fixture(scope="module")
def trained(weights: Path) -> NanoHeads:
    heads = NanoHeads().eval()
    heads.load_state_dict(load_file(weights / FILE))
    return heads


@pytest.fixture(scope="module")
def model(drawn: Bundle) -> Iterator[Vlm]:
    with edgevlm.load(drawn.root, threads=2, spin=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Wide, so that it lies in the middle of the encoder's input: a red disc on the right."""
    y, x = np.mgrid[0:150, 0:300]
    found = np.full((150, 300, 3), 200, np.uint8)
    found[(x - 220) ** 2 + (y - 80) ** 2 < 50**2] = (220, 30, 30)
    return found


def test_the_certificate_compares_every_head(drawn: Bundle):
    found = certify(drawn, open_backend("ort-cpu", threads=2, spin=False))
    assert found.misses == ()
    stages = {stage.stage: stage.max_abs for stage in found.stages}
    heads = ("vision.embedding", "vision.patch_embeds", "mask.masks", "mask.scores")
    assert all(stages[name] < 1e-4 for name in heads)
    assert stages["text.text_embeds"] < 0.01  # of a table of 8-bit blocks
    size = sum(file.size for file in drawn.manifest.files.values())
    print(f"{size / MB:.1f} MB")


def test_the_text_encoder_has_no_table_of_its_own(drawn: Bundle):
    table = drawn.manifest.weights["embedding"].values
    assert drawn.path("text.onnx.data").stat().st_size < 2.1 * MB < table.nbytes
    assert table.file == "decoder.onnx.data"


def test_texts_are_those_of_torch(model: Vlm, drawn: Bundle, trained: NanoHeads):
    """Over the language model's own word embeddings, as training reads them."""
    table = GgufFile(DECODER.locate()).get("embed_tokens.weight")
    words = Tokenizer.from_str(drawn.read_text("tokenizer.json"))
    means = np.stack([table[words.encode(f" {label}").ids].mean(0) for label in LABELS])
    with torch.inference_mode():
        wanted = trained.semantic.texts(torch.from_numpy(means)).numpy()
    found = model.encode_text(LABELS)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert np.abs(found - wanted).max() < 0.01
    alone = np.concatenate([model.encode_text([label]) for label in LABELS])
    assert np.abs(found - alone).max() < 1e-6  # padding changes nothing


def test_labels_are_chosen_by_softmax_at_the_trained_scale(
    model: Vlm, trained: NanoHeads, picture: np.ndarray
):
    encoded = model.encode(picture)
    cosines = model.encode_text(LABELS) @ encoded.outputs["embedding"][0]
    logits = trained.semantic.scale.exp().item() * torch.from_numpy(cosines)
    wanted = dict(zip(LABELS, torch.softmax(logits, 0).tolist(), strict=True))
    found = model.classify(encoded, LABELS)
    assert [name for name, _ in found] == sorted(LABELS, key=lambda n: -wanted[n])
    assert dict(found) == pytest.approx(wanted, abs=1e-5)


def test_a_segmentation_lies_where_the_picture_lies(model: Vlm, picture: np.ndarray):
    """Cells of the letterbox beside the picture reach no pixel of it."""
    encoded = model.encode(picture)
    found = model.segment(encoded, LABELS[:2])
    assert found.label_map.shape == picture.shape[:2]
    # The picture fills rows 56 to 168 of 224 and all columns: one pixel is 0.75 of the input's.
    cell = found.logits.argmax(0)
    rows = ((56 + (np.arange(150) + 0.5) * 112 / 150) / 16).astype(int)
    columns = ((np.arange(300) + 0.5) * 224 / 300 / 16).astype(int)
    nearest = cell[np.ix_(rows, columns)]
    assert (found.label_map == nearest).mean() > 0.85


def test_masks_of_points_and_boxes_are_those_of_torch(
    model: Vlm, drawn: Bundle, trained: NanoHeads, picture: np.ndarray
):
    encoded = model.encode(picture)
    embeddings = torch.from_numpy(encoded.outputs["image_embeddings"])
    point, box = (220.0, 80.0), (170.0, 30.0, 270.0, 130.0)
    found = [model.masks(encoded, points=[[point]]), model.masks(encoded, boxes=[box])]

    def inside(x: float, y: float) -> list[float]:  # of the letterbox, from 0 to 1
        return [x * 224 / 300 / 224, (56 + y * 112 / 150) / 224]

    asked = [([inside(*point)], [1]), ([inside(*box[:2]), inside(*box[2:])], [2, 3])]
    for masks, (points, labels) in zip(found, asked, strict=True):
        with torch.inference_mode():
            logits, score = trained.mask(embeddings, torch.tensor([points]), torch.tensor([labels]))
        assert masks.masks.shape == (1, 1, *picture.shape[:2])
        assert np.abs(masks.logits[0] - logits.numpy()).max() < 1e-3
        assert masks.scores.item() == pytest.approx(score.item(), abs=1e-4)
        fine = torch.nn.functional.interpolate(logits[:, None], (224, 224), mode="bilinear")
        fine = fine[..., 56:168, :]
        fine = torch.nn.functional.interpolate(fine, picture.shape[:2], mode="bilinear")[0, 0]
        clear = fine.abs() > 1e-2
        assert (masks.masks[0, 0] == (fine > 0).numpy())[clear.numpy()].all()
    assert drawn.manifest.masks is not None
    assert drawn.manifest.masks.candidates == 1
    one = model.masks(encoded, boxes=[box], several=False)
    assert np.array_equal(one.masks, found[1].masks)  # there are no further readings


@pytest.mark.parametrize("count", COUNTS)
def test_a_budget_is_that_many_rows_of_one_pass(
    drawn: Bundle, model: Vlm, picture: np.ndarray, count: int
):
    every = model.encode(picture).outputs["visual_tokens"]
    start = sum(n for n in COUNTS if n < count)
    with edgevlm.load(drawn.root, threads=2, spin=False, visual_tokens=count) as other:
        assert np.array_equal(other.encode(picture).tokens, every[start : start + count])
        answer = other.ask(picture, "What is this?", max_tokens=2)
        assert answer.tokens.visual == count
        again = other.ask(picture, "What is this?", max_tokens=2)  # from what the cache kept
    assert again.token_ids == answer.token_ids


def test_the_default_budget_is_that_of_the_export(drawn: Bundle, model: Vlm, picture: np.ndarray):
    assert drawn.manifest.visual_tokens is not None
    assert drawn.manifest.visual_tokens.count == 16
    assert model.ask(picture, "What is this?", max_tokens=1).tokens.visual == 16


@pytest.mark.parametrize("count", [0, 5, 50])
def test_an_unknown_budget_is_refused_with_the_known_ones(drawn: Bundle, count: int):
    with pytest.raises(ConfigError, match=rf"{count} visual tokens .* has 1, 4, 9, 16, 49"):
        edgevlm.load(drawn.root, visual_tokens=count)


def test_the_command_line_takes_a_budget(
    drawn: Bundle, photograph, capsys: pytest.CaptureFixture[str]
):
    words = ["ask", str(drawn.root), str(photograph("coffee.png")), "What is this?", "--json"]
    words += ["--max-tokens", "1", "--threads", "2"]
    assert run_command([*words, "--visual-tokens", "4"]) == 0
    assert '"visual": 4' in capsys.readouterr().out
    assert run_command([*words, "--visual-tokens", "5"]) == 2
    assert "has 1, 4, 9, 16, 49" in capsys.readouterr().err
    assert run_command(["inspect", str(drawn.root)]) == 0
    assert "16 visual tokens or 1, 4, 9, 49" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("apart", [[], ["--isolate"]], ids=["here", "isolated"])
def test_a_stream_takes_a_budget_and_its_events_count_it(
    drawn: Bundle, apart: list[str], capsys: pytest.CaptureFixture[str]
):
    words = ["run", "--bundle", str(drawn.root), "--source", "synthetic:?frames=1&size=160x120"]
    words += ["--ask", "What is it?", "--max-tokens", "1", "--visual-tokens", "9", *apart]
    assert run_command(words) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["tokens"]["visual"] for e in events if e["kind"] == "answer"] == [9]


def test_points_beside_a_picture_of_tiles_have_no_place(drawn: Bundle):
    from edgevlm.runtime.model.pictures.placement import placed_by

    assert drawn.manifest.image is not None
    place, fit = placed_by(drawn.manifest.image, (150, 300))
    assert isinstance(fit, Fit)
    assert (place.top, place.left) == (56, 0)
    with pytest.raises(ContractError, match="takes no pictures"):
        placed_by(None, (150, 300))


def test_weights_are_nanos_alone(tmp_path: Path):
    from edgevlm.export.model_parts import ExportOptions
    from edgevlm.export.pipeline import gather

    with pytest.raises(ConfigError, match="is not nano"):
        gather(str(tmp_path), ExportOptions(weights=tmp_path))
