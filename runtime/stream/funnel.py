"""From many streams' threads to the one that writes: a bounded way in, and each stream's end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from edgevlm.runtime.stream.handover import WAKE_S

T = TypeVar("T")


class Funnel(Generic[T]):
    """Items of several writers for one reader, in the order in which they came.

    Args:
        depth: so many items wait at most; then ``put`` does.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._change = threading.Condition()
        self._writers = 0
        self._open = True

    def entry(self, ended: Callable[[BaseException | None], None]) -> Entry[T]:
        """A way in for one writer; ``ended`` is told of its end, on its thread."""
        with self._change:
            self._writers += 1
        return Entry(self, ended)

    def put(self, item: T) -> bool:
        """Wait for room and hand over an item; False once the reader has closed."""
        with self._change:
            while self._open and len(self._items) >= self._depth:
                self._change.wait(WAKE_S)
            if self._open:
                self._items.append(item)
                self._change.notify_all()
            return self._open

    def left(self) -> None:
        """A writer has ended."""
        with self._change:
            self._writers -= 1
            self._change.notify_all()

    def items(self, each: Callable[[], None] = lambda: None) -> Iterator[T]:
        """Items until every writer has ended and none is left.

        Args:
            each: called before every item, and now and then while none comes.
        """
        while True:
            each()
            with self._change:
                if not self._items and self._writers:
                    self._change.wait(WAKE_S)
                if not self._items:
                    if self._writers:
                        continue
                    return
                item = self._items.popleft()
                self._change.notify_all()
            yield item

    def close(self, timeout_s: float) -> bool:
        """Take nothing any more, and wait for the writers; False if one has not ended by then."""
        with self._change:
            self._open = False
            self._items.clear()
            self._change.notify_all()
            return self._change.wait_for(lambda: not self._writers, timeout_s)


class Entry(Generic[T]):
    """One writer's way into a ``Funnel``; takes what ``handover.feed`` gives."""

    def __init__(self, funnel: Funnel[T], ended: Callable[[BaseException | None], None]) -> None:
        self._funnel = funnel
        self._ended = ended

    def put(self, item: T) -> bool:
        """Hand over an item; False once the reader has closed."""
        return self._funnel.put(item)

    def close(self, error: BaseException | None = None) -> None:
        """The writer has ended, with an error or without."""
        self._ended(error)
        self._funnel.left()
