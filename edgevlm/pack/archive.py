"""The archive itself: one tar, with nothing in it that changes from run to run."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

_EPOCH = 315_532_800  # 1980, as in a bundle's zip
_CHUNK = 1 << 20


class ArchiveWriter:
    """A tar that is there whole after ``commit``, or not at all.

    Args:
        target: the file to be.
        top: the one folder that everything in it lies in.

    Raises:
        OSError: the folder of ``target`` cannot be written.
    """

    def __init__(self, target: Path, top: str) -> None:
        self._target, self._top = target, top
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        self._staged = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)
        self._sums: dict[str, str] = {}

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._staged.unlink(missing_ok=True)

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of the disk under ``name``."""
        with path.open("rb") as source:
            self._add(name, source, path.stat().st_size, 0o644)

    def add_bytes(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file with this content."""
        self._add(name, io.BytesIO(data), len(data), mode)

    def _add(self, name: str, source: BinaryIO, size: int, mode: int) -> None:
        info = tarfile.TarInfo(f"{self._top}/{name}")
        info.size, info.mtime, info.mode = size, _EPOCH, mode
        digest = hashlib.sha256()
        while piece := source.read(_CHUNK):
            digest.update(piece)
        source.seek(0)
        self._tar.addfile(info, source)
        self._sums[name] = digest.hexdigest()

    def commit(self) -> None:
        """Write ``SHA256SUMS`` over everything, flush, and move the archive into place."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self._sums.items())]
        self.add_bytes("SHA256SUMS", "".join(lines).encode())
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._staged.chmod(0o644)
        self._staged.replace(self._target)
