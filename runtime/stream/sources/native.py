"""A decoder, connection or device that one thread reads and any thread may close."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Native:
    """Keeps a native object from being released under the feet of the thread that uses it.

    libav and OpenCV crash when a handle is closed during a read. Here ``close`` releases at once
    if nobody is inside ``use``; otherwise the user releases on the way out.

    Args:
        release: frees the object; called once, never while ``use`` runs.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._busy = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """True from the first call of ``close`` on."""
        return self._closed

    def use(self, work: Callable[[], T]) -> T | None:
        """The result of ``work()``; None, without calling it, once closed."""
        try:
            with self._busy:
                return None if self._closed else work()
        finally:
            if self._closed:
                self._free()

    def close(self) -> None:
        """Release now or as soon as ``use`` returns. Never waits; may be called again."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        # Never waits: a signal handler may get here on the very thread that holds the lock.
        if self._busy.acquire(blocking=False):
            try:
                release, self._release = self._release, None
                if release is not None:
                    release()
            finally:
                self._busy.release()
