"""When frames arrive: their stamps, their positions, and the pace of recorded ones."""

from __future__ import annotations

from collections.abc import Callable

from edgevlm.frame import Frame, Pixels, SourceFault
from edgevlm.runtime.stream.clock import Clock

JUMP_S = 10.0  # back, in stamps: a new beginning
SLICE_S = 0.05  # the longest sleep, so that close() is noticed within 0.1 s


def arrived(
    clock: Clock, index: int, pixels: Pixels, media_s: float | None, monotonic_ns: int | None = None
) -> Frame:
    """A frame stamped with its arrival: now, unless ``monotonic_ns`` says when its data came."""
    now_ns = clock.monotonic_ns()
    came_ns = now_ns if monotonic_ns is None else monotonic_ns
    return Frame(
        index=index,
        pixels=pixels,
        captured_ns=clock.wall_ns() - (now_ns - came_ns),
        monotonic_ns=came_ns,
        media_s=media_s,
        clock="arrival",
    )


class Timeline:
    """Positions in seconds from the first frame on, always increasing.

    A stamp that goes back by ``JUMP_S`` or more is taken for a new beginning: positions go on from
    where they are, and ``jumped`` tells of it. Less than that is one bad stamp.

    Args:
        step_s: what a missing stamp, or one that goes back, advances by.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._origin_s: float | None = None
        self._last_s: float | None = None
        self._back_s = 0.0

    def at(self, stamp_s: float | None) -> float:
        """The position of the next frame, given its presentation time in seconds."""
        expected = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stamp_s is None:
            position = expected
        else:
            if self._origin_s is None:
                self._origin_s = stamp_s - expected
            position = stamp_s - self._origin_s
            if self._last_s is not None and position <= self._last_s:
                if position <= self._last_s - JUMP_S:
                    self._back_s = self._last_s - position
                    self._origin_s = stamp_s - expected
                position = expected
        self._last_s = position
        return position

    def jumped(self, name: str) -> SourceFault | None:
        """What to report of the stamps of ``name`` since the last call, if they went back."""
        back_s, self._back_s = self._back_s, 0.0
        if not back_s:
            return None
        return SourceFault(
            code="discontinuity",
            message=f"the time stamps of {name} went back by {back_s:.3f} s; positions go on",
        )


class Pace:
    """Holds frames back until they are due; the first one is due when it comes.

    Args:
        clock: what is waited on.
        closed: asked at least every ``SLICE_S``; True ends a wait.
    """

    def __init__(self, clock: Clock, closed: Callable[[], bool]) -> None:
        self._clock = clock
        self._closed = closed
        self._start_ns: int | None = None

    def wait(self, media_s: float) -> bool:
        """Return True when the frame at ``media_s`` is due, False if closed before."""
        if self._start_ns is None:
            self._start_ns = self._clock.monotonic_ns() - round(media_s * 1e9)
        due_ns = self._start_ns + round(media_s * 1e9)
        while not self._closed():
            left_s = (due_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0:
                return True
            self._clock.sleep(min(left_s, SLICE_S))
        return False
