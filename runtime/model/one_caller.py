"""One caller at a time, and none after the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgevlm.errors import BackendMemoryError, ContractError


class OneCaller:
    """Refuses a second call beside the first, and every call after ``close``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The time of one call.

        Raises:
            ContractError: another call is under way, or the model is closed.
            BackendMemoryError: in place of the interpreter's own ``MemoryError``.
        """
        if self._closed:
            raise ContractError("this model is closed; load it again")
        if not self._lock.acquire(blocking=False):
            raise ContractError(
                "this model is answering another call; load a second one for a second thread"
            )
        try:
            yield
        except MemoryError as exc:
            raise BackendMemoryError(f"memory ended: {exc or 'no more is to be had'}") from exc
        finally:
            self._lock.release()

    def close(self) -> None:
        """No call from now on; may be called twice."""
        self._closed = True
