"""The two clocks of a stream, in one injectable place."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps that people read, monotonic time for every age and deadline."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back; comparable within one boot only."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; a test's clock moves on instead."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def wall_ns(self) -> int:
        """``time.time_ns()``."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """``time.monotonic_ns()``."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """``time.sleep``."""
        time.sleep(seconds)


SYSTEM = SystemClock()
