"""The ``.evlm`` file: a bundle as one uncompressed zip, and its careful unpacking."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edgevlm.bundle.cache import cache_folder
from edgevlm.bundle.files import MANIFEST, check_name, fsync_tree, list_files, sha256_file
from edgevlm.errors import BundleCorrupt, BundleError

MAX_FILES = 10_000
MAX_BYTES = 64 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say; keeps archives byte-identical


def pack(root: Path, target: Path) -> None:
    """Write the bundle folder ``root`` as one ``.evlm`` zip, atomically.

    Members are stored, not compressed (weights do not compress), in the order of their names
    and with a fixed time, so that the same bundle gives the same bytes.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for member in sorted(list_files(root)):
                    info = zipfile.ZipInfo(member, _EPOCH)
                    info.external_attr = 0o100644 << 16
                    with (
                        (root / member).open("rb") as source,
                        archive.open(info, "w", force_zip64=True) as sink,
                    ):
                        shutil.copyfileobj(source, sink, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def unpack(archive_path: Path, folder: Path) -> None:
    """Unpack a ``.evlm`` into the empty folder ``folder``.

    Raises:
        BundleCorrupt: not a zip, a damaged member, a name that leaves the folder, a link, a
            duplicate, names that differ only in case, a file that is a folder too, more than
            ``MAX_FILES`` files or ``MAX_BYTES`` bytes, or a compressed member (a bundle never
            has one).
        BundleError: the files cannot be written.
    """
    try:
        with zipfile.ZipFile(archive_path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            _check_members(archive_path, members)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except BundleError:
        raise
    except OSError as exc:
        raise BundleError(f"{archive_path} cannot be unpacked: {exc}") from exc
    except Exception as exc:  # the zipfile module raises whatever the bytes provoke
        raise BundleCorrupt(f"{archive_path} is not an intact .evlm file: {exc}") from exc


def _check_members(archive_path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
        raise BundleCorrupt(
            f"{archive_path} holds more than {MAX_FILES} files or {MAX_BYTES} bytes"
        )
    seen: set[str] = set()
    for member in members:
        check_name(member.filename)
        mode = member.external_attr >> 16
        if mode and (mode & 0o170000) not in (0, 0o100000):
            raise BundleCorrupt(f"{archive_path}: {member.filename} is not a regular file")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise BundleCorrupt(
                f"{archive_path}: {member.filename} is compressed or encrypted; "
                "a bundle stores its files as they are"
            )
        if member.filename.casefold() in seen:
            raise BundleCorrupt(f"{archive_path}: {member.filename} is there twice")
        seen.add(member.filename.casefold())
    for name in sorted(seen):
        if clash := seen.intersection(map(str, PurePosixPath(name).parents)):
            raise BundleCorrupt(f"{archive_path}: {clash.pop()} is a file and a folder")
    if MANIFEST not in {m.filename for m in members}:
        raise BundleCorrupt(f"{archive_path} has no {MANIFEST}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def unpack_once(archive_path: Path) -> Path:
    """The folder of an unpacked ``.evlm``, unpacking it into the cache the first time.

    The folder is named after the archive's hash; concurrent callers wait for each other.

    Raises:
        BundleCorrupt: as ``unpack``.
        BundleError: the archive cannot be read, or the cache not written.
    """
    try:
        return _unpack_once(archive_path)
    except OSError as exc:
        raise BundleError(f"{archive_path} cannot be unpacked: {exc}") from exc


def _unpack_once(archive_path: Path) -> Path:
    digest = sha256_file(archive_path)
    target = cache_folder() / "bundles" / digest
    if target.is_dir():
        return target
    with _locked(target.with_suffix(".lock")):
        if target.is_dir():
            return target
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{digest[:12]}-"))
        try:
            unpack(archive_path, staged)
            fsync_tree(staged)
            staged.replace(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return target
