"""The ``.evlm`` file: the same bytes every time, unpacked once, and nothing hostile gets out."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.bundle import Bundle, BundleWriter, archive, open_bundle, pack, unpack_once
from edgevlm.bundle.archive import unpack
from edgevlm.errors import BundleCorrupt, BundleError

Members = list[tuple[zipfile.ZipInfo | str, bytes]]


@pytest.fixture
def packed(tiny: Bundle, tmp_path: Path) -> Path:
    """The small bundle as one file."""
    target = tmp_path / "tiny.evlm"
    pack(tiny.root, target)
    return target


def content(root: Path) -> dict[str, bytes]:
    """Every file under ``root``."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_bundle_gives_the_same_bytes_whenever_it_was_written(tiny: Bundle, tmp_path: Path):
    other = tmp_path / "other"
    for name in sorted(content(tiny.root), reverse=True):  # another order on disk, other times
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny.root / name, other / name)
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o600)
    pack(tiny.root, tmp_path / "a.evlm")
    pack(other, tmp_path / "b.evlm")
    assert (tmp_path / "a.evlm").read_bytes() == (tmp_path / "b.evlm").read_bytes()


def test_members_are_stored_as_they_are_and_in_order(packed: Path, tiny: Bundle):
    with zipfile.ZipFile(packed) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == sorted(content(tiny.root))
        assert {i.compress_type for i in opened.infolist()} == {zipfile.ZIP_STORED}
        assert {i.date_time for i in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_packing_leaves_one_file_that_others_may_read(packed: Path):
    assert [p.name for p in packed.parent.iterdir()] == ["tiny.evlm"]
    assert stat.S_IMODE(packed.stat().st_mode) == 0o644


def test_a_failed_packing_leaves_the_old_file_and_nothing_else(tiny: Bundle, tmp_path: Path):
    target = tmp_path / "tiny.evlm"
    target.write_bytes(b"old")
    broken = Path(shutil.copytree(tiny.root, tmp_path / "broken"))
    (broken / "link").symlink_to("manifest.json")
    with pytest.raises(BundleCorrupt, match="link is not a regular file"):
        pack(broken, target)
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "tiny.evlm"]


def test_an_unpacked_bundle_equals_the_one_that_was_packed(packed: Path, tiny: Bundle, cache: Path):
    opened = open_bundle(packed, "always")
    assert opened.id == tiny.id
    assert content(opened.root) == content(tiny.root)
    assert opened.root.is_relative_to(cache)


def test_the_second_open_uses_the_folder_of_the_first(packed: Path, cache: Path):
    first = open_bundle(packed).root
    inode = first.stat().st_ino
    copy = Path(shutil.copy(packed, packed.parent / "copy.evlm"))  # the content decides
    assert open_bundle(copy).root == first
    assert first.stat().st_ino == inode
    assert [p for p in (cache / "bundles").iterdir() if p.is_dir()] == [first]


def test_processes_that_open_one_file_at_once_share_one_folder(packed: Path, cache: Path):
    code = (
        "import sys; from edgevlm.bundle import open_bundle; sys.stdin.readline(); "
        "print(open_bundle(sys.argv[1]).root)"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(packed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for run in runs:  # all are at the gate before the first one passes
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    outcomes = [(*run.communicate(timeout=60), run.returncode) for run in runs]
    folders = {out.strip() for out, _, _ in outcomes}
    assert [(err, code) for _, err, code in outcomes] == [("", 0)] * 3
    assert len(folders) == 1
    assert [str(p) for p in (cache / "bundles").iterdir() if p.is_dir()] == [folders.pop()]


def write_zip(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip with exactly these members, as an attacker would make it."""
    with zipfile.ZipFile(path, "w", compression) as opened:
        for member, data in members:
            opened.writestr(member, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    """A member that claims to be a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def device(name: str) -> zipfile.ZipInfo:
    """A member that claims to be a character device."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    return info


def outside(cache: Path) -> set[str]:
    """What lies in and above the cache, lock files of unpacked archives left out."""
    return {
        p.relative_to(cache.parent).as_posix()
        for p in cache.parent.rglob("*")
        if p.suffix != ".lock"
    }


def refused(path: Path, cache: Path) -> str:
    """The message with which an archive is refused, leaving nothing behind."""
    (cache / "bundles").mkdir(parents=True)
    before = outside(cache)
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    assert outside(cache) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


ATTACKS: dict[str, tuple[Members, str]] = {
    "parent": ([("../evil", b"x")], "does not stay inside"),
    "deep parent": ([("a/../../evil", b"x")], "does not stay inside"),
    "absolute": ([("/tmp/evil-edgevlm", b"x")], "does not stay inside"),
    "drive": ([("c:/evil", b"x")], "does not stay inside"),
    "empty part": ([("a//b", b"x")], "does not stay inside"),
    "symlink": ([(link("evil"), b"/etc/passwd")], "evil is not a regular file"),
    "device": ([(device("evil"), b"")], "evil is not a regular file"),
    "case clash": ([("Tokens", b"x"), ("tokens", b"y")], "there twice"),
    "case clash beyond ASCII": ([("stra\u00dfe", b"x"), ("STRASSE", b"y")], "there twice"),
    "file as folder": ([("a", b"x"), ("a/b", b"y")], "a is a file and a folder"),
    "folder as file": ([("a/b", b"x"), ("a", b"y")], "a is a file and a folder"),
    "name too long": ([("a" * 300, b"x")], "cannot be unpacked"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing(attack: str, tmp_path: Path, cache: Path):
    members, message = ATTACKS[attack]
    path = write_zip(tmp_path / "evil.evlm", [("manifest.json", b"{}"), *members])
    assert message in refused(path, cache)
    assert not Path("/tmp/evil-edgevlm").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")  # of the zipfile module, as it writes
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, cache: Path):
    members: Members = [("manifest.json", b"{}"), ("a", b"x"), ("a", b"y")]
    path = write_zip(tmp_path / "evil.evlm", members)
    assert "a is there twice" in refused(path, cache)


def test_a_compressed_bomb_is_refused_by_its_headers(tmp_path: Path, cache: Path):
    members: Members = [("manifest.json", b"{}"), ("bomb", bytes(50_000_000))]
    path = write_zip(tmp_path / "evil.evlm", members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "compressed" in refused(path, cache)


def test_more_files_than_the_cap_are_refused(
    packed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archive, "MAX_FILES", 5)
    assert "more than 5 files" in refused(packed, cache)


def test_more_bytes_than_the_cap_are_refused(
    packed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archive, "MAX_BYTES", 100_000)
    assert "or 100000 bytes" in refused(packed, cache)


@pytest.mark.parametrize("name", ["other.json", "Manifest.JSON", "a/manifest.json"])
def test_an_archive_without_a_manifest_is_refused(tmp_path: Path, cache: Path, name: str):
    path = write_zip(tmp_path / "evil.evlm", [(name, b"{}")])
    assert "has no manifest.json" in refused(path, cache)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_archive_is_refused(packed: Path, cache: Path, kept: float):
    os.truncate(packed, int(packed.stat().st_size * kept))
    assert "is not an intact .evlm file" in refused(packed, cache)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, cache: Path):
    path = tmp_path / "picture.evlm"
    path.write_bytes(b"\x89PNG\r\n" * 100)
    assert "is not an intact .evlm file" in refused(path, cache)


def test_a_damaged_member_is_refused_by_its_checksum(
    packed: Path, cache: Path, flip: Callable[..., None]
):
    with zipfile.ZipFile(packed) as opened:
        info = opened.getinfo("decoder.onnx.data")
    flip(packed, at=info.header_offset + info.file_size // 2)
    assert "is not an intact .evlm file" in refused(packed, cache)


def test_an_encrypted_member_is_refused(packed: Path, cache: Path, flip: Callable[..., None]):
    raw = packed.read_bytes()
    flip(packed, at=raw.index(b"PK\x01\x02") + 8)  # bit 0 of the flags, first central entry
    assert "compressed or encrypted" in refused(packed, cache)


def test_an_archive_whose_content_disagrees_with_its_manifest_does_not_open(
    copied: Path, cache: Path, flip: Callable[..., None], tmp_path: Path
):
    flip(copied / "tokenizer.json")
    pack(copied, tmp_path / "wrong.evlm")
    for _ in range(2):  # the unpacked folder is no way around the check
        with pytest.raises(BundleCorrupt, match=r"tokenizer.json has sha256"):
            open_bundle(tmp_path / "wrong.evlm")
    assert cache.is_dir()


def test_an_unpacking_that_cannot_be_written_is_a_bundle_error(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BundleError, match="cannot be unpacked"):
        open_bundle(packed)


@pytest.mark.usefixtures("cache")
def test_an_interrupted_unpacking_is_done_again(
    packed: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(_root: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archive, "fsync_tree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            unpack_once(packed)
    assert content(unpack_once(packed)) == content(tiny.root)


def test_the_writer_packs_where_the_target_says_so(tiny: Bundle, tmp_path: Path):
    with BundleWriter(tmp_path / "made.evlm") as writer:
        for name in tiny.manifest.files:
            (writer.root / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(tiny.root / name, writer.root / name)
        writer.commit(lambda files: tiny.manifest.model_copy(update={"files": files}))
    pack(tiny.root, tmp_path / "packed.evlm")
    assert (tmp_path / "made.evlm").read_bytes() == (tmp_path / "packed.evlm").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.evlm", "packed.evlm"]


@pytest.fixture(scope="module")
def small_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive so small that most damage hits its structure."""
    members: Members = [("manifest.json", json.dumps({"a": 1}).encode()), ("b/c", b"data")]
    return write_zip(tmp_path_factory.mktemp("zip") / "small.evlm", members).read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_an_archive_the_error_is_a_bundle_error(
    small_zip: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    changed = bytearray(small_zip)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    root = tmp_path_factory.mktemp("fuzzed")
    (root / "fuzzed.evlm").write_bytes(changed)
    (root / "out").mkdir()
    try:
        unpack(root / "fuzzed.evlm", root / "out")
    except BundleError:
        pass
    else:
        assert "manifest.json" in content(root / "out")
    assert set(os.listdir(root)) == {"fuzzed.evlm", "out"}  # noqa: PTH208 - names are wanted
