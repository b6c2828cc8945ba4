"""A live source without threads: time moves when the model works, and when the reader waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgevlm.frame import FrameItem
from edgevlm.runtime.stream.handover import Latest
from edgevlm.runtime.stream.mode import is_fault
from tests.runtime.stream.conftest import ManualClock


class LiveByClock(Latest[FrameItem]):
    """A hand-over into which a script's items come when their time has come.

    Args:
        clock: the test's; ``advance`` brings the items that are due.
        due: items with the seconds at which they come, in order.
    """

    def __init__(
        self, clock: ManualClock, due: list[tuple[float, Callable[[], FrameItem]]]
    ) -> None:
        super().__init__(keep=is_fault)
        self._clock = clock
        self._due = [(clock.now_ns + round(at_s * 1e9), make) for at_s, make in due]
        clock.on_advance = self.bring

    def bring(self) -> None:
        """Hand over what is due by now."""
        while self._due and self._due[0][0] <= self._clock.now_ns:
            self.put(self._due.pop(0)[1]())
        if not self._due:
            self.close()

    def close(self, error: BaseException | None = None) -> None:
        """End it, unless the script has more: the thread behind ``Nothing`` ends at once."""
        if not self._due or error is not None:
            super().close(error)

    def _wait(self) -> None:
        if self._due:
            self._clock.now_ns = max(self._clock.now_ns, self._due[0][0])
        self.bring()


class Nothing:
    """The source behind a ``LiveByClock``, which brings the frames itself."""

    name, live = "by clock", True

    def frames(self) -> Iterator[FrameItem]:
        return iter(())

    def close(self) -> None:
        pass
