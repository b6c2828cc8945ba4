"""A sharded checkpoint, and the user's own pictures in its certificate."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import CheckpointError, ExportError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from tests.export.tiny import refused
from tests.export.vlm import conversations, tiny


@dataclass(frozen=True)
class Made:
    """A sharded checkpoint, a folder of pictures, and the export."""

    checkpoint: Path
    pictures: Path
    exported: Exported

    @property
    def bundle(self) -> Bundle:
        return open_bundle(self.exported.target, verify="always")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """SmolVLM in shards; a colour picture, a grey one, and a text among them."""
    root = tmp_path_factory.mktemp("checked")
    model = tiny.smolvlm(root / "checkpoint").model
    (root / "checkpoint" / "model.safetensors").unlink()
    model.save_pretrained(root / "checkpoint", max_shard_size="150KB")
    assert len(list((root / "checkpoint").glob("*.safetensors"))) > 2
    pictures = root / "pictures"
    pictures.mkdir()
    conversations.picture(pictures, "wide")
    grey = np.random.default_rng(0).integers(0, 256, (61, 83), np.uint8)
    Image.fromarray(grey).save(pictures / "machine 7.JPG")
    (pictures / "notes.txt").write_text("not a picture")
    options = ExportOptions(check_images=pictures)
    return Made(
        root / "checkpoint", pictures, export(str(root / "checkpoint"), root / "bundle", options)
    )


def test_every_picture_is_measured_by_name(made: Made):
    found = made.exported.certificate.backends[0]
    assert [p.picture for p in found.pictures] == ["machine 7.JPG", "wide.png"]
    for picture in found.pictures:
        assert picture.misses == ()
        assert picture.logits is not None
        assert picture.logits.max_abs < 1e-3
        assert "vision.visual_tokens" in {s.stage for s in picture.stages}
    assert made.bundle.manifest.parity is not None
    assert made.bundle.manifest.parity.passed


def test_the_pictures_themselves_stay_with_the_user(made: Made):
    names = made.bundle.manifest.files
    assert not [n for n in names if "check-" in n or "wide" in n or "machine" in n]
    assert not [n for n in names if "pixels" in n]
    assert [n for n in names if n.startswith("probe/picture/")]


def test_inspect_shows_them_and_verify_does_without(made: Made, capfd: pytest.CaptureFixture[str]):
    assert run_command(["inspect", str(made.exported.target)]) == 0
    out, _ = capfd.readouterr()
    assert "machine 7.JPG" in out
    assert run_command(["verify", str(made.exported.target), "--json"]) == 0
    verified = json.loads(capfd.readouterr().out)["parity"]["backends"][0]
    assert (verified["status"], verified["pictures"]) == ("measured", [])


def test_all_shards_are_in_the_source_hash(made: Made):
    shards = {p.name for p in made.checkpoint.glob("*.safetensors")}
    assert set(made.bundle.manifest.source.parts) == shards


# What is refused, before any work.


def damaged(folder: Path) -> None:
    raw = (folder / "wide.png").read_bytes()
    (folder / "wide.png").write_bytes(raw[: len(raw) // 2])


BAD = {
    "half a picture": (damaged, "wide.png"),
    "an empty picture": (lambda f: (f / "empty.png").write_bytes(b""), "empty.png"),
    "a text that says it is a picture": (
        lambda f: (f / "lie.jpg").write_text("hello"), "lie.jpg"),
    "no picture": (lambda f: [p.unlink() for p in f.iterdir() if p.suffix != ".txt"],
                   "there is no picture"),
    "no folder": (shutil.rmtree, "no such folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BAD))
def test_pictures_that_cannot_be_read_are_named_before_the_work_begins(
    made: Made, tmp_path: Path, kind: str
):
    pictures = Path(shutil.copytree(made.pictures, tmp_path / "pictures"))
    spoil, says = BAD[kind]
    spoil(pictures)
    told: list[str] = []
    with pytest.raises(ExportError, match="reading the pictures to check failed") as caught:
        export(
            str(made.checkpoint), tmp_path / "bundle", ExportOptions(check_images=pictures),
            lambda *step: told.append(step[2]),
        )  # fmt: skip
    assert says in str(caught.value)
    assert told == []
    assert not (tmp_path / "bundle").exists()


def test_a_shard_that_is_missing_or_of_another_checkpoint_is_named(made: Made, tmp_path: Path):
    source = Path(shutil.copytree(made.checkpoint, tmp_path / "source"))
    first, second = sorted(source.glob("*.safetensors"))[:2]
    shutil.copy(second, first)
    error = refused(source, tmp_path)
    assert isinstance(error, CheckpointError)
    assert "more tensors that are not in" in str(error)
    assert "copy the shard again" in str(error)
    first.unlink()
    assert f"names the shard '{first.name}', which is not there" in str(refused(source, tmp_path))
