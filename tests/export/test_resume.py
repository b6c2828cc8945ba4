"""``--resume``: an interrupted export keeps what it finished, by the hash of what it came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.bundle import open_bundle
from edgevlm.errors import ParityError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.export.stage_store import StageStore
from tests.export.tiny import Checkpoint, config, contents, save

REUSED = "from an earlier try"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("resume") / "model", config("llama"))


@pytest.fixture
def checkpoint(pristine: Checkpoint, tmp_path: Path) -> Checkpoint:
    shutil.copytree(pristine.folder, tmp_path / "model")
    return Checkpoint(tmp_path / "model", pristine.model)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exports"


def told(source: Path, target: Path, until: str = "", **options: Any) -> list[str]:
    """Export, and give what the progress said; interrupted where it says ``until``."""
    said: list[str] = []

    def report(_done: int, _total: int, what: str) -> None:
        said.append(what)
        if until and until in what:
            raise KeyboardInterrupt

    try:
        export(str(source), target, ExportOptions(resume=True, **options), report)
    except KeyboardInterrupt:
        assert until
    return said


def finished(cache: Path) -> set[str]:
    """Stages that are kept as finished."""
    return {path.parent.name for path in cache.glob("*/*/result.json")}


@pytest.mark.parametrize(
    ("until", "kept"),
    [
        ("layer 2/2", set()),
        ("reference encoder", {"part-0"}),
        ("parity", {"part-0", "probe"}),
    ],
)
def test_an_interrupted_export_goes_on_behind_its_last_finished_stage(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path, until: str, kept: set[str]
) -> None:
    target = tmp_path / "out" / "bundle"
    told(checkpoint.folder, target, until)
    assert not (tmp_path / "out").exists()
    assert finished(cache) == kept
    again = told(checkpoint.folder, target)
    assert sum(REUSED in what for what in again) == len(kept)
    assert ("layer 1/2" in again) == ("part-0" not in kept)
    assert list(cache.iterdir()) == []
    export(str(checkpoint.folder), tmp_path / "at-once")
    assert open_bundle(target, verify="always").id == open_bundle(tmp_path / "at-once").id


def other_weights(c: Checkpoint) -> None:
    state = {k: v * 1.01 for k, v in c.model.state_dict().items()}
    c.model.save_pretrained(c.folder, state_dict=state)


def other_template(c: Checkpoint) -> None:
    (c.folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")


CHANGES: dict[str, tuple[Callable[[Checkpoint], object], dict[str, Any]]] = {
    "another precision": (lambda _: None, {"precision": "int8"}),
    "another context": (lambda _: None, {"max_context": 128}),
    "other weights": (other_weights, {}),
    "another config": (lambda c: c.change_config(rms_norm_eps=1e-5), {}),
    "another template": (other_template, {}),
    "another end": (
        lambda c: (c.folder / "generation_config.json").write_text('{"eos_token_id": 2}'), {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(CHANGES))
def test_what_was_made_from_something_else_is_made_anew(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path, kind: str
) -> None:
    told(checkpoint.folder, tmp_path / "bundle", "reference encoder")
    assert finished(cache) == {"part-0"}
    change, options = CHANGES[kind]
    change(checkpoint)
    assert not any(REUSED in what for what in told(checkpoint.folder, tmp_path / "b", **options))
    assert open_bundle(tmp_path / "b", verify="always").manifest.parity.passed


@pytest.mark.parametrize("damage", ["no JSON", "half a file", "a file gone"])
def test_a_damaged_stage_is_made_anew(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path, damage: str
) -> None:
    told(checkpoint.folder, tmp_path / "bundle", "reference encoder")
    (stage,) = cache.glob("*/part-0")
    if damage == "no JSON":
        (stage / "result.json").write_text("{")
    elif damage == "half a file":
        data = (stage / "decoder.onnx.data").read_bytes()
        (stage / "decoder.onnx.data").write_bytes(data[: len(data) // 2])
    else:
        (stage / "decoder.onnx").unlink()
    again = told(checkpoint.folder, tmp_path / "bundle")
    assert not any(REUSED in what for what in again)
    assert open_bundle(tmp_path / "bundle", verify="always").manifest.parity.passed


def test_a_missed_gate_can_be_accepted_without_doing_the_work_again(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path
) -> None:
    state = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    for name, value in state.items():
        if "down_proj" in name or "o_proj" in name:
            value[:, ::16] = 40
    checkpoint.model.save_pretrained(checkpoint.folder, state_dict=state)
    chosen = {"precision": "int4", "calibrate": False, "repair_budget": 0}
    with pytest.raises(ParityError):
        told(checkpoint.folder, tmp_path / "bundle", **chosen)
    assert finished(cache) == {"part-0", "probe"}
    again = told(checkpoint.folder, tmp_path / "bundle", allow_drift=True, **chosen)
    assert sum(REUSED in what for what in again) == 2
    assert open_bundle(tmp_path / "bundle").manifest.parity.degraded


def test_without_resume_nothing_is_kept(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path
) -> None:
    def report(_done: int, _total: int, what: str) -> None:
        if what == "parity":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(str(checkpoint.folder), tmp_path / "bundle", ExportOptions(), report)
    assert not cache.exists()
    assert "bundle" not in [name.split("-")[0].strip(".") for name in contents(tmp_path)]


def test_the_pictures_to_check_count_by_their_content(tmp_path: Path) -> None:
    weights, pictures = tmp_path / "model.safetensors", tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"one")

    def place() -> Path | None:
        options = ExportOptions(resume=True, check_images=pictures)
        return StageStore.open(options, [weights], {"model.safetensors": "0"}).folder

    first = place()
    assert place() == first
    (pictures / "a.png").write_bytes(b"two")
    assert place() != first


def test_what_a_stage_says_of_itself_is_json(
    checkpoint: Checkpoint, tmp_path: Path, cache: Path
) -> None:
    told(checkpoint.folder, tmp_path / "bundle", "parity")
    (result,) = cache.glob("*/part-0/result.json")
    said = json.loads(result.read_text())
    assert set(said["files"]) == {
        "decoder.onnx", "decoder.onnx.data", "decoder.branches.onnx",
    }  # fmt: skip
    assert set(said["graphs"]) == {"decoder"}
