"""The per-user cache folder, and the record of files that were already hashed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevlm.bundle.provenance import FileEntry


def cache_folder() -> Path:
    """``$EDGEVLM_CACHE``, or ``edgevlm`` under the user's cache folder."""
    if chosen := os.environ.get("EDGEVLM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgevlm"


class HashRecord:
    """Which files had which hash, by inode, size and modification time.

    A record that cannot be read counts as empty, and one that cannot be written is not kept:
    the only cost is hashing again.
    """

    def __init__(self, path: Path, entries: dict[str, str]) -> None:
        self._path = path
        self._entries = entries
        self._changed = False

    @classmethod
    def open(cls) -> HashRecord:
        """The record of this user."""
        path = cache_folder() / "hashed.json"
        entries: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            loaded = json.loads(path.read_text("utf-8"))
            if isinstance(loaded, dict):
                entries = {k: v for k, v in loaded.items() if isinstance(v, str)}
        return cls(path, entries)

    @staticmethod
    def _key(path: Path, status: os.stat_result) -> str:
        return (
            f"{path.resolve()}|{status.st_dev}|{status.st_ino}|{status.st_size}"
            f"|{status.st_mtime_ns}|{status.st_ctime_ns}"
        )

    def seen(self, path: Path, status: os.stat_result, entry: FileEntry) -> bool:
        """True if this very file already had the hash that the manifest wants."""
        return self._entries.get(self._key(path, status)) == entry.sha256

    def remember(self, path: Path, status: os.stat_result, entry: FileEntry) -> None:
        """Note that the file has the hash of ``entry``."""
        prefix = f"{path.resolve()}|"
        for old in [k for k in self._entries if k.startswith(prefix)]:
            del self._entries[old]
        self._entries[self._key(path, status)] = entry.sha256
        self._changed = True

    def save(self) -> None:
        """Write the record, atomically, if it changed."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix="hashed-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._entries, file)
            Path(name).replace(self._path)
            self._changed = False
