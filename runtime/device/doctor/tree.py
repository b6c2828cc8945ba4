"""The one reader of files that every probe goes through: a root folder, ``/`` on a live machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TypeVar

T = TypeVar("T")

_CAP_BYTES = 16 << 20  # /var/lib/dpkg/status has a few MB
_STEPS_AT_MOST = 200  # through folders and links, before it counts as a circle


class FileTree:
    """Files under ``root``, named as the machine itself names them (``/proc/meminfo``).

    Links with absolute targets stay inside the root. What is absent or unreadable is None, False
    or empty: a probe never fails over a file.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.live = root == Path("/")

    def real(self, name: str) -> Path:
        """The path to open for ``name``, links followed inside the root.

        Raises:
            OSError: links that lead in a circle.
        """
        if self.live:
            return Path(name)
        todo, done = list(PurePosixPath(name).parts[1:]), PurePosixPath("/")
        for _ in range(_STEPS_AT_MOST):
            if not todo:
                return self.root / done.relative_to("/")
            step = done.parent if todo[0] == ".." else done / todo[0]
            del todo[0]
            here = self.root / step.relative_to("/")
            if here.is_symlink():
                target = PurePosixPath(os.readlink(here))  # noqa: PTH115 - the text, not the file
                if target.is_absolute():
                    done, parts = PurePosixPath("/"), target.parts[1:]
                else:
                    parts = target.parts
                todo = [*parts, *todo]
            else:
                done = step
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)

    def exists(self, name: str) -> bool:
        """True if there is a file, folder or device of that name."""
        return _quietly(lambda: self.real(name).exists()) or False

    def text(self, name: str) -> str | None:
        """The file's text, without NULs (device tree) and outer white space."""
        data = self.content(name)
        return None if data is None else data.decode("utf-8", "replace").strip("\0 \n\t")

    def content(self, name: str) -> bytes | None:
        """The file's first bytes, 16 MiB at most."""

        def read() -> bytes:
            with self.real(name).open("rb") as file:
                return file.read(_CAP_BYTES)

        return _quietly(read)

    def number(self, name: str) -> int | None:
        """The whole number in a file, as sysfs has them."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def target(self, name: str) -> str | None:
        """What a link says, unfollowed; None for anything else."""
        place = PurePosixPath(name)
        return _quietly(lambda: os.readlink(self.real(str(place.parent)) / place.name))  # noqa: PTH115

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        """Full names of what lies in ``folder`` and fits ``pattern``, in order."""
        found = _quietly(lambda: [path.name for path in self.real(folder).iterdir()]) or []
        return [f"{folder.rstrip('/')}/{n}" for n in sorted(found) if fnmatch(n, pattern)]


def _quietly(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except OSError:
        return None
