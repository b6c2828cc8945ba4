"""The hand-over from a live source's thread to the consumer: the only place with threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
In = TypeVar("In", contravariant=True)
WAKE_S = 0.1  # how often a waiting reader looks at its stop rule
KEPT = 64  # items that are never pushed out; beyond this many, the oldest of them goes


class WayIn(Protocol[In]):
    """What a thread puts items into."""

    def put(self, item: In) -> bool:
        """Hand over an item; False once nobody reads any more."""
        ...

    def close(self, error: BaseException | None = None) -> None:
        """The writer has ended."""
        ...


class HandOver(Protocol[T]):
    """What a source's thread puts into and the consumer takes out of."""

    @property
    def every(self) -> bool:
        """True if no item is ever pushed out."""
        ...

    def put(self, item: T) -> bool:
        """Hand over an item; False once the reader has closed."""
        ...

    def close(self, error: BaseException | None = None) -> None:
        """End the hand-over, from either side and in every state. The first error stands."""
        ...

    def items(self, stopped: Callable[[], bool]) -> Iterator[T]:
        """Wait for items until ``stopped``, or until the writer has ended and none is left."""
        ...

    def newest(self) -> T | None:
        """The newest item that waits, which stays where it is."""
        ...

    def take_newest(self, fits: Callable[[T], bool]) -> T | None:
        """Take out the newest item that waits if it fits, where older ones may be passed over."""
        ...

    def take_superseded(self) -> int:
        """How many items were pushed out since the last call."""
        ...

    def take_left(self) -> int:
        """Empty the hand-over and say how many items lay in it."""
        ...


def _no(_: object) -> bool:
    return False


class Latest(Generic[T]):
    """Keeps the newest items and counts the lost ones.

    ``put`` never blocks, and says False once the reader has closed. The error that ended the
    writer reaches the reader behind the last item.

    Args:
        depth: how many items are kept, at least 1.
        keep: True for an item that neither counts nor is pushed out, as what a source reports.
    """

    every = False

    def __init__(self, depth: int = 1, keep: Callable[[T], bool] = _no) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._keep = keep
        self._change = threading.Condition()
        self._open = True
        self._error: BaseException | None = None
        self._superseded = 0

    def put(self, item: T) -> bool:
        """Hand over an item, pushing out the oldest of its kind if there is no room."""
        with self._change:
            if not self._open:
                return False
            kept = self._keep(item)
            alike = [i for i in self._items if self._keep(i) is kept]
            if len(alike) == (KEPT if kept else self._depth):
                self._items.remove(alike[0])
                self._superseded += not kept
            self._items.append(item)
            self._change.notify()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """End the hand-over; legal in every state, from both sides. The first error stands."""
        with self._change:
            if self._open:
                self._open, self._error = False, error
            self._change.notify_all()

    def newest(self) -> T | None:
        """The newest item that waits, kept ones apart."""
        with self._change:
            return next((i for i in reversed(self._items) if not self._keep(i)), None)

    def take_newest(self, fits: Callable[[T], bool]) -> T | None:
        """Take out the newest item if it fits, kept ones apart; older ones count as superseded."""
        with self._change:
            waiting = [i for i in self._items if not self._keep(i)]
            if not waiting or not fits(waiting[-1]):
                return None
            self._items = deque(i for i in self._items if self._keep(i))
            self._superseded += len(waiting) - 1
            return waiting[-1]

    def take_superseded(self) -> int:
        """How many items were pushed out since the last call."""
        with self._change:
            count, self._superseded = self._superseded, 0
            return count

    def take_left(self) -> int:
        """Empty the hand-over and say how many items lay in it, kept ones apart."""
        with self._change:
            count = sum(not self._keep(i) for i in self._items)
            self._items.clear()
            return count

    def items(self, stopped: Callable[[], bool]) -> Iterator[T]:
        """Wait for items until ``stopped``, or until the writer has ended and none is left.

        Raises:
            BaseException: the error that ended the writer.
        """
        while not stopped():
            with self._change:
                if not self._items and self._open:
                    self._wait()
                if self._items:
                    item = self._items.popleft()
                elif self._open:
                    continue
                else:
                    break
            yield item
        if self._error is not None and not stopped():
            raise self._error

    def _wait(self) -> None:
        """Return when something changed, or after ``WAKE_S``; the lock is held."""
        self._change.wait_for(lambda: self._items or not self._open, WAKE_S)


def feed(hand_over: WayIn[T], items: Iterable[T], name: str = "edgevlm-source") -> None:
    """Iterate ``items`` on a daemon thread into ``hand_over``, which gets their end or error."""

    def work() -> None:
        try:
            for item in items:
                if not hand_over.put(item):
                    break
        except BaseException as error:  # handed to the reader, who raises it
            hand_over.close(error)
        else:
            hand_over.close()

    threading.Thread(target=work, name=name, daemon=True).start()


class Asked(Generic[T]):
    """A question to the system that may never come back, put on a thread of its own.

    Args:
        work: asked once.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="edgevlm-lookup", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        self._done.set()

    def answered(self, timeout_s: float) -> bool:
        """Wait; True once there is an answer.

        Raises:
            BaseException: what the work raised.
        """
        if not self._done.wait(timeout_s):
            return False
        if self._error is not None:
            raise self._error
        return True


class Background:
    """Work that goes on beside the stream until it is told to stop.

    Args:
        name: of the thread.
        work: called once with a wait: it blocks for up to so many seconds, or until ``nudge``, and
            says False when the work is to end.
    """

    def __init__(self, name: str, work: Callable[[Callable[[float], bool]], None]) -> None:
        self._nudged = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=work, args=(self._wait,), name=name, daemon=True)
        self._thread.start()

    def _wait(self, seconds: float) -> bool:
        self._nudged.wait(seconds)
        self._nudged.clear()
        return not self._ending

    def nudge(self) -> None:
        """Let the work look again."""
        self._nudged.set()

    def end(self, timeout_s: float) -> bool:
        """Tell the work to end and wait for it; False if it has not by then."""
        self._ending = True
        self._nudged.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
