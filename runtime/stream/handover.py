"""The hand-over from a live source's thread to the consumer: the only place with threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WAKE_S = 0.1  # how often a waiting reader looks at its stop rule


class Latest(Generic[T]):
    """Keeps the newest items and counts the lost ones.

    ``put`` never blocks, and says False once the reader has closed. The error that ended the
    writer reaches the reader behind the last item.

    Args:
        depth: how many items are kept, at least 1.
    """

    def __init__(self, depth: int = 1) -> None:
        self._items: deque[T] = deque(maxlen=depth)
        self._change = threading.Condition()
        self._open = True
        self._error: BaseException | None = None
        self._superseded = 0

    def put(self, item: T) -> bool:
        """Hand over an item, pushing out the oldest if there is no room."""
        with self._change:
            if not self._open:
                return False
            self._superseded += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._change.notify()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """End the hand-over; legal in every state, from both sides. The first error stands."""
        with self._change:
            if self._open:
                self._open, self._error = False, error
            self._change.notify_all()

    def take_superseded(self) -> int:
        """How many items were pushed out since the last call."""
        with self._change:
            count, self._superseded = self._superseded, 0
            return count

    def take_left(self) -> int:
        """Empty the hand-over and say how many items lay in it."""
        with self._change:
            count = len(self._items)
            self._items.clear()
            return count

    def items(self, stopped: Callable[[], bool]) -> Iterator[T]:
        """Wait for items until ``stopped``, or until the writer has ended and none is left.

        Raises:
            BaseException: the error that ended the writer.
        """
        while not stopped():
            with self._change:
                self._change.wait_for(lambda: self._items or not self._open, WAKE_S)
                if self._items:
                    item = self._items.popleft()
                elif self._open:
                    continue
                else:
                    break
            yield item
        if self._error is not None and not stopped():
            raise self._error


def in_thread(items: Iterable[T], depth: int = 1) -> Latest[T]:
    """Iterate ``items`` on a daemon thread into a ``Latest``, which gets its end or its error."""
    latest: Latest[T] = Latest(depth)

    def work() -> None:
        try:
            for item in items:
                if not latest.put(item):
                    break
        except BaseException as error:  # handed to the reader, who raises it
            latest.close(error)
        else:
            latest.close()

    threading.Thread(target=work, name="edgevlm-source", daemon=True).start()
    return latest
