"""Vision-language checkpoints that cannot be exported say why, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgevlm.errors import ConfigError, ExportError
from edgevlm.export import preflight
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.export.preflight import check_room, disk_bytes, memory_bytes
from edgevlm.export.reference.child import run_module
from tests.export.tiny import refused
from tests.export.vlm import tiny


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that exports."""
    folder = tmp_path_factory.mktemp("good") / "checkpoint"
    tiny.smolvlm(folder)
    return folder


def change_json(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Rewrite one JSON file."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def change_weights(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    """Rewrite the tensors."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    """Delete one file."""
    return lambda folder: (folder / name).unlink()


def nan(tensors: dict[str, np.ndarray]) -> None:
    """One number of the vision tower is none."""
    tensors["model.vision_model.encoder.layers.1.mlp.fc1.weight"][3, 4] = np.nan


def other_type(name: str, **more: Any) -> Callable[[Path], None]:
    """Another model_type."""
    return change_json("config.json", lambda c: c.update(model_type=name, **more))


PROJECTION = "model.connector.modality_projection.proj.weight"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no template": (remove("chat_template.jinja"), "has no chat template"),
    "no image processor": (remove("preprocessor_config.json"), "neither preprocessor_config.json"),
    "no tokenizer": (remove("tokenizer.json"), "has no tokenizer.json"),
    "no weights": (remove("model.safetensors"), "pickled checkpoints .* are not read, because"),
    "NaN": (change_weights(nan), "fc1.weight holds values that are not finite"),
    "no connector": (change_weights(lambda t: t.pop(PROJECTION) is None),
                     "lacks the weight modality_projection.proj.weight"),
    "image token unknown": (
        change_json("config.json", lambda c: c.update(image_token_id=99999)),
        "names the image token 99999, which the tokenizer does not have",
    ),
    "image token of another": (
        change_json("config.json", lambda c: c.update(image_token_id=301)),
        r"the image token is '<image>' \(300\) for the processor and "
        r"'<fake_token_around_image>' \(301\) for config.json",
    ),
    "image tokens of another tile": (
        change_json("processor_config.json", lambda c: c.update(image_seq_len=64)),
        r"the processor writes 64 image tokens a tile .image_seq_len. and config.json makes 9",
    ),
    "pickles beside no weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pickled checkpoints .* are not read, because loading them runs code",
    ),
    "NaN in the decoder": (
        change_weights(lambda t: t["model.text_model.layers.1.mlp.up_proj.weight"].fill(np.nan)),
        "up_proj.weight holds values that are not finite",
    ),
    "weights in 8 bits": (
        change_json("config.json", lambda c: c.update(
            quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})),
        "is quantised with 'bitsandbytes', which is not read",
    ),
    "tower of another size": (
        change_json("config.json", lambda c: c["vision_config"].update(hidden_size=48)),
        r"patch kernel is \(60, 3, 8, 8\) and its position table \(36, 60\)",
    ),
    "decoder of another size": (
        change_json("config.json", lambda c: c["text_config"].update(hidden_size=32)),
        "embed_tokens.weight has the shape",
    ),
    "pixels not scaled by 255": (
        change_json("preprocessor_config.json", lambda c: c.update(rescale_factor=1.0)),
        "scales pixels by 1.0; only 1/255",
    ),
    "a filter that nobody has": (
        change_json("preprocessor_config.json", lambda c: c.update(resample=17)),
        "resample 17 is none of Pillow's",
    ),
    "config refused": (
        change_json("config.json", lambda c: c.update(vision_config="none")), "is refused",
    ),
    "unknown type": (other_type("smolvlm9"), "'smolvlm9' is not known; nearest: smolvlm"),
    "remote code": (
        other_type("odd_vlm", auto_map={"AutoModel": "code.Odd"}),
        "brings its own Python code .auto_map., which is never run",
    ),
    "moondream": (other_type("moondream1"), "moondream1: transformers has no class for it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_checkpoint_is_refused_with_the_reason(kind: str, good: Path, tmp_path: Path):
    source = Path(shutil.copytree(good, tmp_path / "source"))
    spoil, message = BAD[kind]
    spoil(source)
    error = refused(source, tmp_path)
    assert isinstance(error, ExportError)
    with pytest.raises(ExportError, match=message):
        raise error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 4}, "--tokens: smolvlm gives its own number of tokens"),
        ({"compressor": "grid"}, "--compressor: smolvlm gives"),
        ({"image_size": 50}, "--image-size 50: smolvlm takes a multiple of 48"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    options: dict[str, Any], message: str, good: Path, tmp_path: Path
):
    error = refused(good, tmp_path, **options)
    assert isinstance(error, ConfigError)
    assert message in str(error)


def test_too_little_disk_or_memory_is_said_with_both_numbers(tmp_path: Path):
    with pytest.raises(ExportError, match=r"needs about 1000000000.0 GB and .* GB free"):
        check_room(tmp_path / "not" / "there", 10**18, 0)
    with pytest.raises(ExportError, match=r"needs about 1000000000.0 GB of memory and .* GB are"):
        check_room(tmp_path, 0, 10**18)
    check_room(tmp_path, disk_bytes(1000, "fp32"), memory_bytes(1000))


@pytest.mark.parametrize(
    ("what", "says"),
    [("free disk", "the bundle needs about"), ("memory", "running the source model for")],
)
def test_an_export_that_would_not_fit_is_refused_before_its_work_begins(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, says: str
):
    nearly_full = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    if what == "memory":
        monkeypatch.setattr(preflight, "_available_memory", lambda: 10**6)
    else:
        monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _folder: nearly_full)
    told: list[str] = []
    with pytest.raises(ExportError, match=says):
        export(str(good), tmp_path / "b", ExportOptions(), lambda *step: told.append(step[2]))
    assert told == []
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_the_system_kills_is_said_to_lack_memory():
    with pytest.raises(ExportError, match="this was killed, most likely for want of memory"):
        run_module("tests.export.vlm.killed", doing="this")


def test_the_estimate_of_the_disk_is_not_below_what_the_bundle_takes(good: Path, tmp_path: Path):
    from tests.export.tiny import export_to

    bundle = export_to(good, tmp_path / "bundle")
    weights = sum(e.size for n, e in bundle.manifest.files.items() if n.endswith(".data"))
    count = sum(t.size for t in load_file(good / "model.safetensors").values())
    padding = 4096 * len(bundle.manifest.weights) * 4
    assert weights <= disk_bytes(count, "fp32") - (200 << 20) + padding
