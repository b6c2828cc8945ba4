"""The way in: from a source to frames worth looking at, every other one counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgevlm.config import RunConfig
from edgevlm.frame import BadFrame, Frame, FrameItem, FrameSource, SourceFault
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.bad_frames import BadFrames
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.handover import HandOver, feed
from edgevlm.runtime.stream.lease import Lease


def position_s(frame: Frame, live: bool) -> float:
    """Time along which rates count: the source's own where it has one."""
    if frame.media_s is not None and not live:
        return frame.media_s
    return frame.monotonic_ns / 1e9


class Rate:
    """Passes so many frames a second, the first one among them.

    Args:
        hz: asked for every frame; None passes all.
        live: whether the source is.
    """

    def __init__(self, hz: Callable[[], float | None], live: bool) -> None:
        self._hz = hz
        self._live = live
        self._last_s: float | None = None

    def passes(self, frame: Frame) -> bool:
        """True if this frame is to be looked at."""
        if (hz := self._hz()) is None:
            return True
        now_s = position_s(frame, self._live)
        if self._last_s is not None and now_s < self._last_s + 1 / hz - 1e-6:
            return False
        self._last_s = now_s
        return True

    def took(self, frame: Frame) -> None:
        """This frame is looked at in place of the last one that passed."""
        self._last_s = position_s(frame, self._live)


class Intake:
    """Reads a source for one stream and keeps the books of what is read.

    Args:
        config: of the stream.
        source: read on a thread of its own where there is a ``hand_over``, else on the caller's.
        hand_over: what lies between the two threads.
        account: told of every frame.
        clock: of limits.
        stopped: asked between frames.
        lease: says how many frames may be looked at.
    """

    def __init__(
        self,
        config: RunConfig,
        source: FrameSource,
        hand_over: HandOver[FrameItem] | None,
        account: Account,
        clock: Clock,
        stopped: Callable[[], bool],
        lease: Lease,
    ) -> None:
        self._limits = config.limits
        self._source = source
        self._hand_over = hand_over
        self._account = account
        self._clock = clock
        self._stopped = stopped
        self._rate = Rate(lambda: lease.caps.rate(config.policy.rate_hz), source.live)
        self._bad = BadFrames(clock)
        self._begun_ns = clock.monotonic_ns()
        # Frames that nobody will look at take no room where all are kept: the source's thread
        # counts them, and the reader takes the difference.
        self._rate_first = hand_over is not None and hand_over.every
        self._skipped = self._skipped_before = 0

    def items(self) -> Iterator[Frame | SourceFault]:
        """Frames to look at, and what the source reports, until a limit or the end.

        Raises:
            SourceError: the source failed.
        """
        for item in self._taken():
            if isinstance(item, SourceFault):
                yield item
                continue
            self._account.read += 1
            if isinstance(item, BadFrame):
                self._account.drop("undecodable")
                if (fault := self._bad.fault(item)) is not None:
                    yield fault
            elif self._rate_first or self._rate.passes(item):
                yield item
            else:
                self._account.drop("sampled")
            if self._limits.frames is not None and self._account.read >= self._limits.frames:
                return

    def newest(self) -> Frame | None:
        """The newest frame that waits, where the newest one counts."""
        item = None if self._hand_over is None else self._hand_over.newest()
        return item if isinstance(item, Frame) else None

    def newer(self) -> Frame | None:
        """Take the newest frame that waits, in place of the last one, which has waited too long."""
        full = self._limits.frames is not None and self._account.read >= self._limits.frames
        if self._hand_over is None or full:
            return None
        item = self._hand_over.take_newest(lambda i: isinstance(i, Frame))
        if not isinstance(item, Frame):
            return None
        self._account.read += 1
        self._rate.took(item)
        return item

    def over(self) -> bool:
        """True once the run is stopped or out of time."""
        limit_s = self._limits.duration_s
        if limit_s is not None and self._clock.monotonic_ns() - self._begun_ns >= limit_s * 1e9:
            return True
        return self._stopped()

    def _taken(self) -> Iterator[FrameItem]:
        hand_over = self._hand_over
        if hand_over is None:
            for item in self._source.frames():
                yield item
                if self.over():
                    return
            return
        frames = self._source.frames()
        feed(hand_over, self._thinned(frames) if self._rate_first else frames)
        try:
            for item in hand_over.items(self.over):
                self._lost(hand_over)
                yield item
        finally:
            hand_over.close()
            self._lost(hand_over)
            left = hand_over.take_left()
            self._account.read += left
            self._account.drop("shutdown", left)

    def _thinned(self, frames: Iterator[FrameItem]) -> Iterator[FrameItem]:
        for item in frames:
            if isinstance(item, Frame) and not self._rate.passes(item):
                self._skipped += 1
            else:
                yield item

    def _lost(self, hand_over: HandOver[FrameItem]) -> None:
        superseded, skipped = hand_over.take_superseded(), self._skipped
        sampled, self._skipped_before = skipped - self._skipped_before, skipped
        self._account.read += superseded + sampled
        self._account.drop("superseded", superseded)
        self._account.drop("sampled", sampled)
