"""Every frame is counted once: answered, reused, dropped for a reason, or failed."""

from __future__ import annotations

import contextlib
import resource
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgevlm.answer import Timing
from edgevlm.event import DropReason, FrameTotals, Percentiles

WINDOW = 4096
_STAGES = ("wait", "gate", "preprocess", "encode", "prefill", "decode", "total")
_OF_THE_FRAME = ("wait", "gate", "total")  # the same in all of its answers


def _window() -> deque[float]:
    return deque(maxlen=WINDOW)


@dataclass(slots=True)
class Account:
    """The books of one stream.

    ``pending`` and ``quiet`` are what the next event reports: drops, and reused frames that had
    no event of their own.
    """

    read: int = 0
    answered: int = 0
    reused: int = 0
    failed: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    pending: Counter[DropReason] = field(default_factory=Counter)
    quiet: int = 0
    ages_ms: deque[float] = field(default_factory=_window)
    stages_ms: dict[str, deque[float]] = field(default_factory=dict)

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Frames that get no answer."""
        if count:
            self.dropped[reason] += count
            self.pending[reason] += count

    def take_pending(self) -> tuple[dict[DropReason, int], int]:
        """Drops by reason and quietly reused frames since the last event; both start anew."""
        taken = dict(self.pending), self.quiet
        self.pending.clear()
        self.quiet = 0
        return taken

    def timed(self, timings: Sequence[Timing], age_ms: float) -> None:
        """Note what an answered frame cost: what each of its answers took."""
        self.ages_ms.append(age_ms)
        for stage in _STAGES:
            took = [getattr(timing, stage) for timing in timings]
            whole = took[0] if stage in _OF_THE_FRAME else sum(took)
            self.stages_ms.setdefault(stage, _window()).append(whole)

    def totals(self) -> FrameTotals:
        """The closing figures."""
        return FrameTotals(
            read=self.read,
            answered=self.answered,
            reused=self.reused,
            dropped=dict(self.dropped),
            failed=self.failed,
        )

    def balanced(self) -> bool:
        """True if no frame is lost between the books."""
        dropped = sum(self.dropped.values())
        return self.read == self.answered + self.reused + dropped + self.failed


def percentiles(values: deque[float]) -> Percentiles:
    """Median, 95th and 99th percentile, rounded to a microsecond if the unit is ms."""
    if not values:
        return Percentiles(p50=None, p95=None, p99=None)
    p50, p95, p99 = np.percentile(np.array(values), (50, 95, 99))
    return Percentiles(p50=round(p50, 3), p95=round(p95, 3), p99=round(p99, 3))


def peak_rss_mb() -> float:
    """Largest resident set of this process so far, in MB of 10^6 bytes.

    Linux hands ``ru_maxrss`` on from whoever started the process, so the kernel's own mark is
    asked first.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
