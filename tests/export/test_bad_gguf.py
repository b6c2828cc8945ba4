"""Damaged and hostile GGUF files: one typed line, nothing written, no hang."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.errors import CheckpointError, EdgeVLMError, ExportError
from edgevlm.export.decoder.weights import check_shapes
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano.packages import DECODER
from edgevlm.export.pipeline import export
from edgevlm.export.recipe import gather_gguf
from tests.export.tiny import config, export_to, random_model, refused, write_gguf

pytestmark = pytest.mark.timeout(60)
SETTINGS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, random_model(config("llama", **SETTINGS)), "Q8_0")
    return path


@pytest.fixture(scope="module")
def header_bytes(whole: Path) -> int:
    import gguf

    return int(gguf.GGUFReader(whole).data_offset)


def read_everything(path: Path) -> None:
    """All that an export reads, without lowering it."""
    parts = gather_gguf(path, ExportOptions())
    check_shapes(parts.spec, parts.weights)
    assert isinstance(parts.weights, GgufFile)
    names = ["embed_tokens", "norm", "layers.0.self_attn.q_proj", "layers.0.mlp.down_proj"]
    for name in names:
        parts.weights.get(f"{name}.weight")
        if "norm" not in name:
            parts.weights.blocks(f"{name}.weight")


def typed_or_fine(path: Path) -> str:
    """Reads; says what was refused, which must be one of ours in one line."""
    said = ""
    try:
        read_everything(path)
    except ExportError as exc:
        said = str(exc)
    assert "\n" not in said
    return said


def test_the_whole_file_exports(whole: Path, tmp_path: Path) -> None:
    read_everything(whole)
    assert export_to(whole, tmp_path / "b").manifest.family == "llama"


def test_a_file_cut_anywhere_is_refused(whole: Path, header_bytes: int, tmp_path: Path) -> None:
    import gguf

    raw = whole.read_bytes()
    end = max(t.data_offset + t.n_bytes for t in gguf.GGUFReader(whole).tensors)
    sizes = {*range(0, 64), *range(64, header_bytes, 97), *range(header_bytes, end, 499)}
    for size in sorted({*sizes, header_bytes - 1, header_bytes, end - 1}):
        path = tmp_path / "cut.gguf"
        path.write_bytes(raw[:size])
        assert typed_or_fine(path), f"cut to {size} of {len(raw)} bytes"


def test_an_export_of_a_cut_file_leaves_nothing(whole: Path, tmp_path: Path) -> None:
    raw = whole.read_bytes()
    (tmp_path / "target").mkdir()
    for size in (0, 3, 24, 1000, len(raw) // 2, len(raw) - 32):
        path = tmp_path / "cut.gguf"
        path.write_bytes(raw[:size])
        error = refused(path, tmp_path / "target")
        assert isinstance(error, CheckpointError)
        assert "cut.gguf" in str(error)


def test_smollm2_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    shutil.copyfile(DECODER.locate(), path)
    full = path.stat().st_size
    for size in (full - 1, full // 2, 5 << 20, 3 << 20, 1 << 20, 70_000, 500, 23, 0):
        os.truncate(path, size)
        with pytest.raises(CheckpointError, match=r"truncated|bytes"):
            GgufFile(path)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_in_the_header_are_refused_or_harmless(
    whole: Path, header_bytes: int, tmp_path: Path, seed: int
) -> None:
    raw = whole.read_bytes()
    random = np.random.default_rng(seed)
    said: dict[str, int] = {}
    for _ in range(120):
        damaged = bytearray(raw)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(0, header_bytes)] ^= 1 << random.integers(0, 8)
        path = tmp_path / "flipped.gguf"
        path.write_bytes(damaged)
        message = typed_or_fine(path)
        said[message[:20]] = said.get(message[:20], 0) + 1
    assert len(said) > 1, "every flip had the same effect"


def test_bytes_overwritten_where_counts_lie_are_refused_or_harmless(
    whole: Path, header_bytes: int, tmp_path: Path
) -> None:
    """The text lists take most of a header; these offsets are the other bytes."""
    raw = whole.read_bytes()
    first, last = raw.index(b"tokenizer.ggml.tokens"), raw.index(b"tokenizer.ggml.bos_token_id")
    places = [*range(0, first + 60), *range(last - 20, header_bytes)]
    for n, place in enumerate(places[::7]):
        damaged = bytearray(raw)
        damaged[place : place + 1] = [b"\xff", b"\x00", b"\x7f", b"\x80"][n % 4]
        path = tmp_path / "flipped.gguf"
        path.write_bytes(damaged)
        typed_or_fine(path)


@pytest.mark.parametrize("seed", range(6))
def test_an_export_of_a_flipped_file_leaves_a_bundle_or_nothing(
    whole: Path, header_bytes: int, tmp_path: Path, seed: int
) -> None:
    raw = bytearray(whole.read_bytes())
    random = np.random.default_rng(100 + seed)
    tensors = raw.index(b"output_norm.weight")
    low, high = (tensors, header_bytes) if seed % 2 else (0, header_bytes)
    for _ in range(2):
        raw[random.integers(low, high)] ^= 1 << random.integers(0, 8)
    path = tmp_path / "flipped.gguf"
    path.write_bytes(raw)
    (tmp_path / "target").mkdir()
    said = ""
    try:
        export(str(path), tmp_path / "target" / "bundle")
    except EdgeVLMError as exc:
        said = str(exc)
    assert "\n" not in said
    assert [p.name for p in (tmp_path / "target").iterdir()] == ([] if said else ["bundle"])


def test_flipped_weights_export_as_they_are_or_are_refused(whole: Path, tmp_path: Path) -> None:
    """A scale that becomes infinite must not become a bundle of NaN."""
    raw = bytearray(whole.read_bytes())
    import gguf

    tensor = next(t for t in gguf.GGUFReader(whole).tensors if t.name == "blk.0.ffn_down.weight")
    raw[tensor.data_offset : tensor.data_offset + 2] = struct.pack("<e", np.inf)
    path = tmp_path / "inf.gguf"
    path.write_bytes(raw)
    (tmp_path / "target").mkdir()
    error = refused(path, tmp_path / "target", allow_drift=True)
    assert "layers.0.mlp.down_proj" in str(error)
    assert "not finite" in str(error)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(pairs: bytes = b"", pair_count: int = 1, tensors: bytes = b"", count: int = 0) -> bytes:
    return struct.pack("<IIQQ", 0x46554747, 3, count, pair_count) + pairs + tensors


ARCHITECTURE = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
TENSOR = text(b"t") + struct.pack("<IQ", 1, 32)
LIES: dict[str, bytes] = {
    "another magic": b"GGML" + struct.pack("<IQQ", 3, 0, 0),
    "an old version": struct.pack("<IIQQ", 0x46554747, 1, 0, 0),
    "a future version": struct.pack("<IIQQ", 0x46554747, 4, 0, 0),
    "the other byte order": struct.pack(">4sIQQ", b"GGUF", 3, 0, 0),
    "more pairs than bytes": header(ARCHITECTURE, 2**63),
    "more tensors than bytes": header(ARCHITECTURE, 1, b"", 2**63),
    "a key without end": header(struct.pack("<Q", 2**63)),
    "a text without end": header(text(b"k") + struct.pack("<IQ", 8, 2**62)),
    "a list of numbers without end": header(text(b"k") + struct.pack("<IIQ", 9, 4, 2**60)),
    "a list of bytes without end": header(text(b"k") + struct.pack("<IIQ", 9, 0, 2**40)),
    "a list of texts without end": header(text(b"k") + struct.pack("<IIQ", 9, 8, 2**60)),
    "a list of lists": header(text(b"k") + struct.pack("<IIQ", 9, 9, 2**60)),
    "an unknown type": header(text(b"k") + struct.pack("<I", 77)),
    "a list of an unknown type": header(text(b"k") + struct.pack("<IIQ", 9, 13, 1)),
    "a key twice": header(ARCHITECTURE * 2, 2),
    "a key that is no text": header(text(b"\xff\xfe") + struct.pack("<IB", 0, 1)),
    "too many dimensions": header(ARCHITECTURE, 1, text(b"t") + struct.pack("<I", 2**31), 1),
    "an unknown tensor type": header(ARCHITECTURE, 1, TENSOR + struct.pack("<IQ", 999, 0), 1),
    "a tensor behind the end": header(ARCHITECTURE, 1, TENSOR + struct.pack("<IQ", 0, 2**63), 1),
    "a tensor over the end": header(ARCHITECTURE, 1, TENSOR + struct.pack("<IQ", 0, 0), 1),
    "a tensor of more elements than fit": header(
        ARCHITECTURE,
        1,
        text(b"t") + struct.pack("<IQQQQIQ", 4, 2**32, 2**32, 2**32, 2**32, 0, 0),
        1,
    ),
    "an alignment of no power": header(
        ARCHITECTURE + text(b"general.alignment") + struct.pack("<II", 4, 3), 2
    ),
    "an alignment of zero": header(
        ARCHITECTURE + text(b"general.alignment") + struct.pack("<II", 4, 0), 2
    ),
    "no architecture": header(b"", 0),
    "no tensors": header(ARCHITECTURE),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(LIES[lie] + b"\0" * 200)
    (tmp_path / "target").mkdir()
    error = refused(path, tmp_path / "target")
    assert isinstance(error, CheckpointError)
    assert "lie.gguf" in str(error)


def test_a_list_as_long_as_a_large_file_is_refused_at_once(tmp_path: Path) -> None:
    """The gguf package would make a hundred million arrays of it."""
    path = tmp_path / "sparse.gguf"
    path.write_bytes(header(text(b"k") + struct.pack("<IIQ", 9, 0, 100 << 20)))
    os.truncate(path, 200 << 20)
    with pytest.raises(CheckpointError, match="an array of 104857600 values"):
        GgufFile(path)


def changed(**metadata: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_gguf(path, random_model(config("llama", **SETTINGS)), **metadata)

    return write


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown architecture": ({"general__architecture": "gemma3"}, "'gemma3' is not one of"),
    "no hidden size": ({"llama__embedding_length": None}, "lacks the metadata"),
    "no heads": ({"llama__attention__head_count": None}, "llama.attention.head_count"),
    "zero heads": ({"llama__attention__head_count": 0}, "make no decoder"),
    "uneven heads": ({"llama__attention__head_count_kv": 3}, "not a multiple"),
    "text for a number": ({"llama__block_count": "many"}, "make no decoder"),
    "a list for a number": ({"llama__block_count": [1, 2]}, "make no decoder"),
    "no layers": ({"llama__block_count": 0}, "num_layers"),
    "too many layers": ({"llama__block_count": 10**9}, "layers.1.input_layernorm"),
    "another width": ({"llama__embedding_length": 64}, "has the shape"),
    "another inner width": ({"llama__feed_forward_length": 64}, "has the shape"),
    "another head width": ({"llama__attention__key_length": 32}, "rotating a part"),
    "a rope of half a head": ({"llama__rope__dimension_count": 4}, "rotating a part"),
    "a rope scaling": ({"llama__rope__scaling__type": "yarn"}, "'yarn' is not supported"),
    "a scaling without factor": (
        {"llama__rope__scaling__type": "linear"},
        "llama.rope.scaling.factor",
    ),
    "a base that is not a number": ({"llama__rope__freq_base": float("nan")}, "rope_theta"),
    "no epsilon": ({"llama__attention__layer_norm_rms_epsilon": 0.0}, "norm_eps"),
    "no context": ({"llama__context_length": 0}, "max_positions"),
    "a short context": ({"llama__context_length": 20}, "the parity probe has"),
    "no tokenizer": ({"tokenizer__ggml__model": None}, "tokenizer model None"),
    "another tokenizer": ({"tokenizer__ggml__model": "llama"}, "tokenizer model 'llama'"),
    "an unknown pre-tokenizer": ({"tokenizer__ggml__pre": "tekken"}, "'tekken' is not known"),
    "no tokens": ({"tokenizer__ggml__tokens": None}, "tokenizer.ggml.tokens"),
    "no merges": ({"tokenizer__ggml__merges": None}, "tokenizer.ggml.merges"),
    "tokens that are a number": ({"tokenizer__ggml__tokens": 5}, "damaged"),
    "types that are a number": ({"tokenizer__ggml__token_type": 5}, "damaged"),
    "too few types": ({"tokenizer__ggml__token_type": [1, 2]}, "300 tokens but 2 token types"),
    "a merge of unknown tokens": ({"tokenizer__ggml__merges": ["zz qq"]}, "merges do not fit"),
    "a merge of one token": ({"tokenizer__ggml__merges": ["zz"]}, "merges do not fit"),
    "no end token": ({"tokenizer__ggml__eos_token_id": None}, "names no end token"),
    "an end token that is text": ({"tokenizer__ggml__eos_token_id": "x"}, "names no end token"),
    "a template that is none": ({"tokenizer__chat_template": "{% if"}, "does not compile"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_metadata_that_do_not_fit_are_named(tmp_path: Path, change: str) -> None:
    metadata, says = CHANGES[change]
    path = tmp_path / "odd.gguf"
    changed(**metadata)(path)
    (tmp_path / "target").mkdir()
    assert says in str(refused(path, tmp_path / "target"))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    model = random_model(config("llama", **SETTINGS))
    state = model.state_dict
    model.state_dict = lambda: {k: v for k, v in state().items() if "up_proj" not in k}
    write_gguf(path, model)
    (tmp_path / "target").mkdir()
    error = refused(path, tmp_path / "target")
    assert "layers.0.mlp.up_proj.weight (stored as blk.0.ffn_up.weight)" in str(error)


def test_a_folder_or_another_file_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    with pytest.raises(CheckpointError, match="does not exist"):
        GgufFile(tmp_path / "x.gguf")
    with pytest.raises(CheckpointError, match="does not exist"):
        GgufFile(tmp_path / "nowhere.gguf")
