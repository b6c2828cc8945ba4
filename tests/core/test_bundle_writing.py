"""A bundle is there whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle, BundleWriter, Manifest, open_bundle
from edgevlm.bundle import writer as writer_module
from edgevlm.errors import BundleExists, ExportError

pytestmark = pytest.mark.usefixtures("cache")


def fill(writer: BundleWriter, source: Bundle) -> None:
    """Write every file of ``source`` but the manifest."""
    for name in source.manifest.files:
        (writer.root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source.root / name, writer.root / name)


def write(
    target: Path,
    source: Bundle,
    force: bool = False,
    last: Callable[[], object] = lambda: None,
    **change: object,
) -> Manifest:
    """Write ``source`` again, its manifest changed; ``last`` is called before the commit."""
    with BundleWriter(target, force) as writer:
        fill(writer, source)
        last()
        return writer.commit(
            lambda files: source.manifest.model_copy(update={"files": files, **change})
        )


def test_what_was_written_is_what_is_read(tiny: Bundle, tmp_path: Path):
    written = write(tmp_path / "made", tiny)
    opened = open_bundle(tmp_path / "made", "always")
    assert opened.manifest == written == tiny.manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "made"]


def test_two_writings_give_the_same_bytes(tiny: Bundle, tmp_path: Path):
    for name in ("a", "b"):
        write(tmp_path / name, tiny)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == len(tiny.manifest.files) + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("target", ["made", "a/b/made", "made.evlm", "a/b/made.evlm"])
def test_a_failure_leaves_nothing_not_even_the_folders_above(
    tiny: Bundle, tmp_path: Path, target: str
):
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / target, tiny, last=lambda: 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_manifest_leaves_nothing(tiny: Bundle, tmp_path: Path):
    def broken(_files: object) -> Manifest:
        raise ExportError("no manifest")

    with BundleWriter(tmp_path / "a" / "made") as writer:
        fill(writer, tiny)
        with pytest.raises(ExportError, match="no manifest"):
            writer.commit(broken)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays_after_a_failure(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), BundleWriter(tmp_path / "mine" / "new" / "made"):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_leaving_without_a_commit_writes_nothing(tmp_path: Path):
    with BundleWriter(tmp_path / "made") as writer:
        (writer.root / "file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_refused_and_untouched_without_force(copied: Path, tiny: Bundle):
    with pytest.raises(BundleExists, match="--force"):
        BundleWriter(copied)
    assert open_bundle(copied, "always").id == tiny.id
    assert {p.name for p in copied.parent.iterdir()} <= {"bundle", "cache"}


def test_force_replaces_the_whole_bundle(copied: Path, tiny: Bundle):
    write(copied, tiny, force=True, name="another")
    assert open_bundle(copied, "always").manifest.name == "another"
    assert {p.name for p in copied.parent.iterdir()} == {"bundle", "cache"}


def test_a_failure_under_force_leaves_the_old_bundle(copied: Path, tiny: Bundle):
    with pytest.raises(ZeroDivisionError):
        write(copied, tiny, force=True, last=lambda: 1 // 0)
    assert open_bundle(copied, "always").id == tiny.id
    assert {p.name for p in copied.parent.iterdir()} == {"bundle", "cache"}


def test_a_failure_in_the_very_last_step_puts_the_old_bundle_back(
    copied: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
):
    # The new folder vanishes between the flush and the rename, as under a tmp cleaner.
    monkeypatch.setattr(writer_module, "fsync_tree", shutil.rmtree)
    with pytest.raises(FileNotFoundError):
        write(copied, tiny, force=True, name="another")
    assert open_bundle(copied, "always").id == tiny.id
    assert {p.name for p in copied.parent.iterdir()} == {"bundle", "cache"}


def test_force_replaces_an_empty_folder(tiny: Bundle, tmp_path: Path):
    (tmp_path / "made").mkdir()
    write(tmp_path / "made", tiny, force=True)
    assert open_bundle(tmp_path / "made").id == tiny.id


def test_force_never_replaces_a_folder_that_is_not_a_bundle(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BundleExists, match="not a bundle"):
        BundleWriter(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["thesis.txt", "thesis.evlm"])
def test_force_never_replaces_a_file_that_is_not_a_bundle(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"years of work")
    with pytest.raises(BundleExists, match="not a bundle"):
        BundleWriter(tmp_path / name, force=True)
    assert (tmp_path / name).read_bytes() == b"years of work"


def test_force_replaces_a_packed_bundle(tiny: Bundle, tmp_path: Path):
    write(tmp_path / "made.evlm", tiny)
    write(tmp_path / "made.evlm", tiny, force=True, name="another")
    assert open_bundle(tmp_path / "made.evlm").manifest.name == "another"


def test_a_target_under_a_file_is_an_export_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be written"):
        BundleWriter(tmp_path / "file" / "made")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
