"""Pictures to a video server, in the background: a child process, started again when it fails."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from PIL import Image

from edgevlm.errors import BackendError
from edgevlm.runtime.stream.delivery.courier import rest, retry_pause_s
from edgevlm.runtime.stream.handover import Background

REPEAT_S = 1.0  # without a new picture the last one is sent again: servers drop who falls silent
CLOSE_S = 2.0
POLL_S = 0.1
START_S = 30.0  # for a process to come up, on a board that is busy
READY, UP = b"ready\n", b"up\n"  # what a connection says when it dials, and when it is taken
Draw = Callable[[], Image.Image]


class Feed(Protocol):
    """One connection that takes pictures of one size."""

    def feed(self, data: bytes | memoryview, timeout_s: float) -> bool:
        """Hand over some bytes; False if they were not taken in time, or nobody takes any."""
        ...

    def answer(self) -> bytes:
        """What the other side has said since the last call."""
        ...

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def last_words(self) -> str:
        """Why it ended."""
        ...

    def finish(self, timeout_s: float) -> bool:
        """End what is sent and wait for it; False if it did not end in time."""
        ...

    def stop(self) -> None:
        """Release it in every state; may be called twice."""
        ...


class Publisher:
    """Sends the newest picture as soon as the last one is taken; the others are counted.

    Args:
        connect: opens a connection for pictures of this width and height.
        timeout_s: a connection that takes nothing for so long, or is not up so long after it
            dialled, is given up.
        jitter: a number in [0, 1) for the spread of the waits between attempts.
    """

    def __init__(
        self,
        connect: Callable[[tuple[int, int]], Feed],
        timeout_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._jitter = jitter
        self._lock = threading.Lock()
        self._next: Draw | None = None
        self._said: deque[str] = deque(maxlen=100)
        self._up = False
        self._dropped_before = 0
        self.sent = self.dropped = 0
        self.trouble = ""
        self._background = Background("edgevlm-publisher", self._work)

    def wanted(self) -> bool:
        """False, and a drop counted, while a picture would only wait for a connection."""
        if self._up or self._next is None:
            return True
        self.dropped += 1
        return False

    def offer(self, draw: Draw) -> None:
        """A picture, drawn in the background if its turn comes; never blocks."""
        with self._lock:
            self.dropped += self._next is not None
            self._next = draw
        self._background.nudge()

    def take_said(self) -> list[str]:
        """What is to be told since the last call: that it broke down, or goes on."""
        return [self._said.popleft() for _ in range(len(self._said))]

    def close(self) -> None:
        """Send the last picture, and end within seconds; may be called twice."""
        self._background.end(2 * CLOSE_S + 1)

    def _take(self) -> Draw | None:
        with self._lock:
            taken, self._next = self._next, None
        return taken

    def _work(self, wait: Callable[[float], bool]) -> None:
        failures, going = 0, True
        while going:
            if (draw := self._take()) is None:
                going = wait(REPEAT_S)
                continue
            try:
                problem = self._connection(draw(), wait)
            except (BackendError, OSError) as exc:
                problem = str(exc)
            if not problem:
                return
            failures = 1 if self._up else failures + 1
            if problem != self.trouble:
                self._said.append(f"not published: {problem}; it is tried again")
            if self._up or not self.trouble:
                self._dropped_before = self.dropped
            self._up, self.trouble = False, problem
            going = rest(wait, retry_pause_s(failures, self._jitter()))

    def _connection(self, image: Image.Image, wait: Callable[[float], bool]) -> str:
        """Publish until something fails, and say what; "" once the work is to end."""
        size_wh = image.width // 2 * 2, image.height // 2 * 2
        begun, going = time.monotonic(), True
        feed = self._connect(size_wh)
        try:
            while True:
                at_ms = round((time.monotonic() - begun) * 1e3)
                bound_s = self._timeout_s if self._up else START_S  # it reads, and then dials
                if not feed.feed(record(image, size_wh, at_ms), bound_s):
                    return self._why(feed)
                if not self._up and (going := self._dialled(feed, wait)) and not self._up:
                    return self._why(feed)
                self.sent += self._up
                if not going:
                    feed.finish(CLOSE_S)
                    return ""
                going = wait(REPEAT_S)
                if (draw := self._take()) is not None:
                    image = draw()
        finally:
            feed.stop()

    def _dialled(self, feed: Feed, wait: Callable[[float], bool]) -> bool:
        """Wait for the connection; False once the work is to end. ``_up`` says how it went."""
        until, said = time.monotonic() + START_S, b""
        while time.monotonic() < until and feed.ended() is None:
            if new := feed.answer():
                said += new
                until = time.monotonic() + self._timeout_s
            if UP in said:
                if self.trouble:
                    missed = self.dropped - self._dropped_before
                    self._said.append(f"published again; {missed} pictures were not")
                self._up, self.trouble = True, ""
                return True
            if not wait(POLL_S):
                return False
        return True

    def _why(self, feed: Feed) -> str:
        if feed.finish(POLL_S):
            return feed.last_words()
        return f"the server takes nothing for {self._timeout_s:g} s"


def record(image: Image.Image, size_wh: tuple[int, int], at_ms: int) -> bytes:
    """A picture as the child takes it: its time, then RGB bytes of this size."""
    if image.size != size_wh:
        image = image.resize(size_wh)
    return at_ms.to_bytes(4, "little") + np.asarray(image.convert("RGB")).tobytes()
