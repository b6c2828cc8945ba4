"""What is said of frames that could not be decoded: every one counts, few are reported."""

from __future__ import annotations

from edgevlm.frame import BadFrame, SourceFault
from edgevlm.runtime.stream.clock import Clock

EVERY_S = 10.0


class BadFrames:
    """Reports the first bad frame, then one every ``EVERY_S``; drops count all of them.

    Args:
        clock: its monotonic time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_ns: int | None = None

    def fault(self, frame: BadFrame) -> SourceFault | None:
        """What to report of this one, if anything."""
        now_ns = self._clock.monotonic_ns()
        if self._said_ns is not None and now_ns - self._said_ns < EVERY_S * 1e9:
            return None
        self._said_ns = now_ns
        return SourceFault(code="damaged", message=f"frame {frame.index}: {frame.reason}")
