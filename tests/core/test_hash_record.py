"""What is hashed again, and what is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import open_bundle, reader
from edgevlm.bundle.cache import cache_folder
from edgevlm.errors import BundleCorrupt


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the reader hashes, as they are hashed."""
    names: list[str] = []
    real = reader.sha256_file

    def counting(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(reader, "sha256_file", counting)
    return names


@pytest.mark.usefixtures("cache")
def test_the_second_open_hashes_nothing_unless_told_to(copied: Path, hashed: list[str]):
    files = len(open_bundle(copied).manifest.files)
    assert len(hashed) == files
    open_bundle(copied)
    assert len(hashed) == files
    open_bundle(copied, "always")
    assert len(hashed) == 2 * files
    open_bundle(copied, "size")
    assert len(hashed) == 2 * files


@pytest.mark.usefixtures("cache")
def test_a_file_that_was_touched_is_hashed_again_and_only_that_one(copied: Path, hashed: list[str]):
    open_bundle(copied)
    hashed.clear()
    os.utime(copied / "tokenizer.json")
    open_bundle(copied)
    assert hashed == ["tokenizer.json"]


@pytest.mark.usefixtures("cache")
def test_a_changed_file_is_found_even_if_its_size_and_time_were_put_back(
    copied: Path, flip: Callable[..., None]
):
    path = copied / "decoder.onnx.data"
    open_bundle(copied)
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino, before.st_size, before.st_mtime_ns,
    )  # fmt: skip
    with pytest.raises(BundleCorrupt, match=r"decoder.onnx.data has sha256"):
        open_bundle(copied)


@pytest.mark.usefixtures("cache")
def test_a_file_that_failed_is_not_remembered_as_good(copied: Path, flip: Callable[..., None]):
    flip(copied / "tokenizer.json")
    for _ in range(2):
        with pytest.raises(BundleCorrupt, match=r"tokenizer.json"):
            open_bundle(copied)
    flip(copied / "tokenizer.json")
    open_bundle(copied)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b'{"a": 1}', b"null", b"[" * 100_000],
    ids=["empty", "cut", "binary", "list", "wrong values", "null", "deep"],
)
def test_a_damaged_record_counts_as_empty_and_is_written_anew(
    copied: Path, cache: Path, hashed: list[str], content: bytes
):
    cache.mkdir()
    (cache / "hashed.json").write_bytes(content)
    files = len(open_bundle(copied).manifest.files)
    assert len(hashed) == files
    open_bundle(copied)
    assert len(hashed) == files


def test_a_bundle_opens_where_the_cache_cannot_be_written(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "file" / "cache"))
    open_bundle(copied)


def test_saving_the_record_leaves_no_temporary_file(copied: Path, cache: Path):
    open_bundle(copied)
    assert [p.name for p in cache.iterdir()] == ["hashed.json"]


def test_the_cache_folder_is_the_users_own_unless_the_variable_names_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("EDGEVLM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/somebody/.cache/edgevlm")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder() == Path("/var/cache/edgevlm")
    monkeypatch.setenv("EDGEVLM_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
