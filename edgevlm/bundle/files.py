"""Files inside a bundle: safe names, hashes, durable writes."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path, PurePosixPath

from edgevlm.errors import BundleCorrupt

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def check_name(name: str) -> str:
    """Return ``name`` if it is a plain relative POSIX path inside the bundle.

    Raises:
        BundleCorrupt: absolute, with a drive, a backslash, a NUL, or a ``..`` part.
    """
    path = PurePosixPath(name)
    bad = (
        not name
        or "\\" in name
        or "\0" in name
        or ":" in name
        or path.is_absolute()
        or any(part in ("", ".", "..") for part in name.split("/"))
    )
    if bad:
        raise BundleCorrupt(f"file name {name!r} does not stay inside the bundle")
    return name


def list_files(root: Path) -> dict[str, os.stat_result]:
    """Every file under ``root`` by POSIX name.

    Raises:
        BundleCorrupt: a link, socket, device or pipe lies in the bundle.
    """
    found: dict[str, os.stat_result] = {}
    for folder, folders, names in os.walk(root):
        for name in sorted(folders) + sorted(names):
            path = Path(folder) / name
            status = path.lstat()
            inside = path.relative_to(root).as_posix()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise BundleCorrupt(f"{root}: {inside} is not a regular file")
            found[inside] = status
    return found


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def fsync_tree(root: Path) -> None:
    """Flush every file and folder under ``root`` to the disk."""
    for folder, _, names in os.walk(root):
        for path in [Path(folder) / n for n in names] + [Path(folder)]:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes at a second place, without copying where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
