"""The store's own reckoning of time, which a jump of the wall clock does not move."""

from __future__ import annotations

from edgevlm.runtime.stream.clock import Clock


class KeptTime:
    """Milliseconds that never go back and, within one process, never jump.

    Retention by age must not delete everything because a board without a battery woke up in 1970
    or an NTP step moved the clock by two weeks. The reckoning begins at the wall clock, or at the
    newest event if that is later, and goes on with the monotonic clock.

    Args:
        clock: both clocks.
        newest_ms: of the newest event in the store; 0 without any.
    """

    def __init__(self, clock: Clock, newest_ms: int) -> None:
        self._clock = clock
        self._begun_ms = max(clock.wall_ns() // 1_000_000, newest_ms)
        self._begun_ns = clock.monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds, about those since the Unix epoch."""
        return self._begun_ms + (self._clock.monotonic_ns() - self._begun_ns) // 1_000_000
