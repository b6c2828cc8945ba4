"""A live source that is connected again, for as long as it takes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

from edgevlm.errors import SourceError, SourceStalled, SourceUnauthorized
from edgevlm.frame import BadFrame, Frame, FrameItem, FrameSource, SourceFault, SourceFaultCode
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import SLICE_S

FIRST_S = 1.0
LONGEST_S = 60.0
STEADY_S = 10.0  # a connection that held this long was no flapping


class Backoff:
    """How long to wait before each attempt: twice as long each time, up to a minute.

    Between half of that and all of it, by chance, so that many cameras behind one switch do not
    come back in step. Wrong credentials wait the longest at once: cameras lock out who insists.

    Args:
        chance: gives numbers in [0, 1).
        longest_s: the bound; less than a minute where a look costs next to nothing.
    """

    def __init__(
        self, chance: Callable[[], float] = random.random, longest_s: float | None = None
    ) -> None:
        self._chance = chance
        self._longest_s = LONGEST_S if longest_s is None else longest_s
        self._failures = 0

    def failed(self, error: SourceError, held_s: float) -> float:
        """Seconds until the next attempt, after a connection that held for ``held_s``."""
        if held_s >= STEADY_S:
            self._failures = 0
        if isinstance(error, SourceUnauthorized):
            longest = self._longest_s
        else:
            longest = min(self._longest_s, FIRST_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return longest * (1 + self._chance()) / 2


class ReconnectingSource:
    """Frames of one connection after another, as those of one camera.

    A source that is not there at the start is treated like one that went away. Indices go on
    where they stopped, positions by the time that went by. A fault is reported when a connection
    fails, again only when it fails for another reason, and ``recovered`` with the first frame
    that follows. A connection that ends without an error ends the source.

    Args:
        name: printable, without credentials; the same for every connection.
        connect: opens a connection; what it gives is closed here.
        clock: is waited on between attempts.
        first: a connection that is open already, which ``connect`` gives out first.
        backoff: says how long to wait.
    """

    live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], FrameSource],
        clock: Clock = SYSTEM,
        first: FrameSource | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._connection = first
        self._closed = False
        self._index = 0
        self._origin_ns: int | None = None  # arrival of the very first frame
        self._last_s = -1.0
        self._down_ns: int | None = None
        self._attempts = 0
        self._said: tuple[SourceFaultCode, str] | None = None

    def frames(self) -> Iterator[FrameItem]:
        """Yield frames and faults until closed."""
        while not self._closed:
            first_ns: int | None = None
            try:
                for item in self._frames():
                    if not isinstance(item, BadFrame):
                        yield from self._recovered()
                    if isinstance(item, Frame) and first_ns is None:
                        first_ns = item.monotonic_ns
                    yield item
                return
            except SourceError as exc:
                error = exc
            now_ns = self._clock.monotonic_ns()
            held_s = 0.0 if first_ns is None else (now_ns - first_ns) / 1e9
            yield from self._failed(error, now_ns)
            self._wait(self._backoff.failed(error, held_s))

    def close(self) -> None:
        """End ``frames``; a connection under way is closed as its kind does."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def _frames(self) -> Iterator[FrameItem]:
        self._attempts += 1
        connection = self._connection = self._connect()
        try:
            if self._closed:
                return
            offset_s: float | None = None
            for item in connection.frames():
                if isinstance(item, SourceFault):
                    yield item
                    continue
                item, offset_s = self._continued(item, offset_s)
                self._index += 1
                yield item
        finally:
            connection.close()

    def _continued(
        self, item: Frame | BadFrame, offset_s: float | None
    ) -> tuple[Frame | BadFrame, float | None]:
        """``item`` counted on from the connections before."""
        if isinstance(item, BadFrame):
            return dataclasses.replace(item, index=self._index), offset_s
        if self._origin_ns is None:
            self._origin_ns = item.monotonic_ns
        media_s = item.media_s
        if media_s is not None:
            if offset_s is None:
                elapsed_s = (item.monotonic_ns - self._origin_ns) / 1e9
                offset_s = max(elapsed_s, self._last_s + 1e-3) - media_s
            media_s = self._last_s = media_s + offset_s
        return dataclasses.replace(item, index=self._index, media_s=media_s), offset_s

    def _failed(self, error: SourceError, now_ns: int) -> Iterator[SourceFault]:
        if self._closed:
            return
        self._down_ns = now_ns if self._down_ns is None else self._down_ns
        code: SourceFaultCode = "source"
        if isinstance(error, SourceUnauthorized):
            code = "auth"
        elif isinstance(error, SourceStalled):
            code = "stall"
        if (code, str(error)) != self._said:
            self._said = code, str(error)
            yield SourceFault(code=code, message=f"{error}; it is tried again until it comes back")

    def _recovered(self) -> Iterator[SourceFault]:
        if self._down_ns is not None:
            away_s = (self._clock.monotonic_ns() - self._down_ns) / 1e9
            yield SourceFault(
                code="recovered",
                message=f"{self.name} delivers again, {away_s:.1f} s and {self._attempts} "
                "attempts later",
            )
            self._down_ns = None
        self._said, self._attempts = None, 0

    def _wait(self, seconds: float) -> None:
        until_ns = self._clock.monotonic_ns() + round(seconds * 1e9)
        while not self._closed:
            left_s = (until_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0:
                return
            self._clock.sleep(min(left_s, SLICE_S))
