"""Weights that lie, are cut, damaged, or cannot be held: refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import SafetensorsFile
from tests.export.tiny import Checkpoint, export_to, refused

pytestmark = pytest.mark.timeout(60)


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
