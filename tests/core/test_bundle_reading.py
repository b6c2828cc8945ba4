"""Opening a bundle: what is refused, and that the message names it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.bundle import Bundle, Manifest, open_bundle, read_manifest, reader
from edgevlm.bundle.manifest import Segment
from edgevlm.errors import BundleCorrupt, BundleError, BundleVersion
from tests.core.tiny import weights

pytestmark = pytest.mark.usefixtures("cache")

FILES = (
    "LICENSES/LICENSE",
    "chat_template.jinja",
    "decoder.branches.onnx",
    "decoder.onnx",
    "decoder.onnx.data",
    "parity.json",
    "probe/after.npy",
    "probe/before.npy",
    "probe/gaps.npy",
    "probe/logits.npy",
    "probe/tokens.npy",
    "tokenizer.json",
)


def rewrite(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the parsed manifest in place."""
    path = root / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def refused(root: Path, kind: type[BundleError] = BundleCorrupt, **how: Any) -> str:
    """The one-line message with which opening fails."""
    with pytest.raises(kind) as caught:
        open_bundle(root, **how)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_intact_bundle_opens_with_the_manifest_that_was_written(copied: Path, tiny: Bundle):
    opened = open_bundle(copied, "always")
    assert opened.root == copied
    assert opened.manifest == tiny.manifest
    assert opened.id == tiny.id
    assert len(opened.id) == 64
    assert set(opened.manifest.files) == set(FILES)


def test_an_array_of_the_bundle_is_the_checkpoints_weight(tiny: Bundle):
    entry = tiny.manifest.weights["embedding"]
    mapped = tiny.array(entry.values)
    np.testing.assert_array_equal(mapped, weights()["model.embed_tokens.weight"])
    assert not mapped.flags.writeable


@pytest.mark.parametrize("verify", ["always", "once"])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_and_its_file_named(
    copied: Path, flip: Callable[..., None], name: str, verify: str
):
    flip(copied / name)
    assert f" {name} has sha256 " in refused(copied, verify=verify)


def test_a_flipped_bit_goes_unseen_where_only_sizes_were_asked_for(
    copied: Path, flip: Callable[..., None]
):
    flip(copied / "decoder.onnx.data")
    open_bundle(copied, "size")


@pytest.mark.parametrize("verify", ["always", "once", "size"])
@pytest.mark.parametrize("name", ["decoder.onnx.data", "probe/logits.npy"])
def test_a_truncated_file_is_named_with_both_sizes(copied: Path, name: str, verify: str):
    size = (copied / name).stat().st_size
    os.truncate(copied / name, size - 1)
    message = refused(copied, verify=verify)
    assert name in message
    assert f"{size - 1} bytes" in message
    assert f"says {size}" in message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copied: Path, name: str):
    (copied / name).unlink()
    assert f"{name} is missing" in refused(copied)


@pytest.mark.parametrize("name", ["extra.bin", "probe/model.pkl", "LICENSES/.hidden", "a/b/c"])
def test_a_file_that_the_manifest_does_not_list_is_named(copied: Path, name: str):
    (copied / name).parent.mkdir(parents=True, exist_ok=True)
    (copied / name).write_bytes(b"x")
    assert f"{name} is not in the manifest" in refused(copied)


def test_an_engine_built_on_this_device_is_no_stranger(copied: Path):
    (copied / "engines" / "trt-rtx-sm86").mkdir(parents=True)
    (copied / "engines" / "trt-rtx-sm86" / "decoder.engine").write_bytes(b"x")
    open_bundle(copied)


@pytest.mark.parametrize(
    "name",
    ["../secret", "a/../../secret", "/etc/passwd", "probe\\tokens.npy", "c:secret", "./tokens",
     "probe//tokens.npy", "probe/", "", "a\0b"],
)  # fmt: skip
def test_a_name_that_leaves_the_bundle_is_refused_before_any_file_is_read(copied: Path, name: str):
    (copied.parent / "secret").write_bytes(b"x")
    entry = {"size": 1, "sha256": "0" * 64}
    rewrite(copied, lambda raw: raw["files"].update({name: entry}))
    assert f"{name!r} does not stay inside the bundle" in refused(copied)


@pytest.mark.parametrize("name", ["tokenizer.json", "probe"])
def test_a_symlink_in_a_bundle_is_refused(copied: Path, name: str):
    (copied / name).rename(copied.parent / "elsewhere")
    (copied / name).symlink_to(copied.parent / "elsewhere")
    assert f"{name} is not a regular file" in refused(copied)


def test_a_pipe_in_a_bundle_is_refused_and_not_read(copied: Path):
    (copied / "tokenizer.json").unlink()
    os.mkfifo(copied / "tokenizer.json")
    assert "tokenizer.json is not a regular file" in refused(copied)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1]])
def test_another_format_version_is_named_with_the_one_that_is_read(copied: Path, version: Any):
    rewrite(copied, lambda raw: raw.update(format_version=version))
    message = refused(copied, BundleVersion)
    assert f"format version {version!r}" in message
    assert "reads version 1" in message


def test_a_manifest_without_a_version_is_of_no_known_version(copied: Path):
    rewrite(copied, lambda raw: raw.pop("format_version"))
    assert "None" in refused(copied, BundleVersion)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not json", b"\xff\xfe", b'{"a": 1} trailing', b"[" * 100_000, b"9" * 5000],
    ids=["empty", "cut", "text", "binary", "trailing", "deep", "huge number"],
)
def test_a_manifest_that_is_not_json_is_corrupt(copied: Path, content: bytes):
    (copied / "manifest.json").write_bytes(content)
    assert "manifest.json is not JSON" in refused(copied)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"1"])
def test_json_that_is_no_object_is_of_no_known_version(copied: Path, content: bytes):
    (copied / "manifest.json").write_bytes(content)
    refused(copied, BundleVersion)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("graphs", lambda raw: raw.update(graphs=[])),
        ("parity.json.size", lambda raw: raw["files"]["parity.json"].update(size=-1)),
        ("parity.json.sha256", lambda raw: raw["files"]["parity.json"].update(sha256="ab")),
        ("kv.capacity", lambda raw: raw["kv"].update(capacity="many")),
        ("decoder", lambda raw: raw["decoder"].update(num_kv_heads=3)),
        ("precision", lambda raw: raw.update(precision="int3")),
        ("surprise", lambda raw: raw.update(surprise=1)),
        ("kv.surprise", lambda raw: raw["kv"].update(surprise=1)),
        ("name", lambda raw: raw.pop("name")),
        ("at least one graph", lambda raw: raw["graphs"].clear()),
        ("sections decoder", lambda raw: raw.pop("decoder")),
        ("seq2seq, prompt and kv", lambda raw: raw.pop("prompt")),
        ("vision", lambda raw: raw["graphs"].update(vision=raw["graphs"]["decoder"])),
        ("gone.onnx", lambda raw: raw["graphs"]["decoder"].update(file="gone.onnx")),
        ("gone.data", lambda raw: raw["weights"]["embedding"]["values"].update(file="gone.data")),
        ("gone.jinja", lambda raw: raw["prompt"].update(chat_template="gone.jinja")),
        ("dtype", lambda raw: raw["weights"]["embedding"]["values"].update(dtype="object")),
        ("dtype", lambda raw: raw["weights"]["embedding"]["values"].update(dtype="nonsense")),
        ("shape", lambda raw: raw["weights"]["embedding"]["values"].update(shape=[-1, 64])),
        ("stop_token_ids", lambda raw: raw["prompt"].update(stop_token_ids=[])),
    ],
)  # fmt: skip
def test_a_manifest_of_another_shape_is_corrupt_and_the_place_named(
    copied: Path, place: str, change: Callable[[dict[str, Any]], object]
):
    rewrite(copied, change)
    assert place in refused(copied)


def test_a_manifest_of_absurd_size_is_not_parsed(copied: Path):
    os.truncate(copied / "manifest.json", (64 << 20) + 1)
    assert "larger than" in refused(copied)


def test_a_folder_without_a_manifest_says_how_to_make_a_bundle(tmp_path: Path):
    assert "edgevlm export nano" in refused(tmp_path, BundleError)


def test_a_path_that_is_not_there_says_how_to_make_a_bundle(tmp_path: Path):
    assert "edgevlm export nano" in refused(tmp_path / "gone", BundleError)


def test_a_file_that_cannot_be_read_is_a_bundle_error(
    copied: Path, monkeypatch: pytest.MonkeyPatch
):
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reader, "sha256_file", denied)
    assert "cannot be read" in refused(copied, BundleError, verify="always")


def test_a_file_that_is_not_listed_cannot_be_read_through_the_bundle(tiny: Bundle):
    with pytest.raises(BundleCorrupt, match=r"'secret.txt' is not in this bundle"):
        tiny.path("secret.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "is not UTF-8"), (b"{", "is not JSON"), (b"[" * 100_000, "is not JSON")],
    ids=["binary", "cut", "deep"],
)
def test_a_listed_file_that_does_not_parse_is_corrupt(copied: Path, content: bytes, message: str):
    bundle = open_bundle(copied)
    (copied / "parity.json").write_bytes(content)
    with pytest.raises(BundleCorrupt, match=f"parity.json {message}"):
        bundle.read_json("parity.json")


def test_an_array_behind_the_end_of_its_file_is_corrupt(tiny: Bundle):
    size = tiny.path("decoder.onnx.data").stat().st_size
    segment = Segment(file="decoder.onnx.data", offset=size - 7, dtype="float32", shape=(2,))
    with pytest.raises(BundleCorrupt, match=f"ends at byte {size + 1}"):
        tiny.array(segment)


def test_the_id_depends_on_every_field_and_not_on_the_layout_of_the_json(copied: Path):
    before = open_bundle(copied).id
    rewrite(copied, lambda raw: raw)  # other spaces, same content
    assert open_bundle(copied).id == before
    rewrite(copied, lambda raw: raw["prompt"].update(system="Answer in verse."))
    assert open_bundle(copied).id != before


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_a_manifest_the_error_is_a_bundle_error(
    tiny: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    content = bytearray((tiny.root / "manifest.json").read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    root = tmp_path_factory.mktemp("fuzzed")
    (root / "manifest.json").write_bytes(content)
    try:
        outcome: Manifest | str = read_manifest(root)
    except BundleError as error:
        outcome = str(error)
    assert isinstance(outcome, Manifest) or "\n" not in outcome
