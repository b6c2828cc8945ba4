"""Less work for good, once memory has ended in the middle of it.

What a stream gives up, one step an error, until its work fits again:

1. several questions side by side: they are asked one after another, and what decoded them together
   (the decoder's weights once more, and the caches) is released;
2. half of its frames' longer side, as often as ``LEAST_SIDE`` pixels are left.

Then nothing is left: three such failures in a row end the stream, as any others do, and its model
is unloaded. What was given up does not come back within the run: what did not fit once would fail
another frame to find out.
"""

from __future__ import annotations

import dataclasses

from edgevlm.errors import BackendError, BackendMemoryError
from edgevlm.frame import Frame
from edgevlm.runtime.stream.caps import Caps
from edgevlm.runtime.stream.lease import Lease

LEAST_SIDE = 224  # pixels


class Shedding:
    """A stream's lease, whose caps are what is left.

    Args:
        lease: on the model.
        together: the stream asks several questions side by side.
    """

    def __init__(self, lease: Lease, together: bool) -> None:
        self._lease = lease
        self._together = together
        self._max_side: int | None = None
        self.shed: tuple[str, ...] = ()

    def less(self, error: BackendMemoryError, size_wh: tuple[int, int]) -> BackendError:
        """Give something up.

        Args:
            error: memory ended.
            size_wh: of the frame that it ended at.

        Returns:
            what to tell: the error, and what was given up; ``error`` itself if nothing is left.
        """
        if self._together:
            self._together = False
            said = "questions are asked one after another"
        else:
            longest = min(max(size_wh), self.caps.max_side or max(size_wh))
            if longest // 2 < LEAST_SIDE:
                return error
            self._max_side = longest // 2
            said = f"frames are at most {self._max_side} pixels wide and high"
        self.shed = (*(one for one in self.shed if not one.startswith("frames")), said)
        return BackendError(f"{error}; {said} from now on")

    @property
    def caps(self) -> Caps:
        """What the stream may use at most, at present."""
        caps = self._lease.caps
        sides = [side for side in (caps.max_side, self._max_side) if side is not None]
        return dataclasses.replace(caps, max_side=min(sides, default=None), together=self._together)

    @property
    def shared(self) -> bool:
        """As of the lease."""
        return self._lease.shared

    @property
    def paused_ms(self) -> float:
        """As of the lease."""
        return self._lease.paused_ms

    def take(self, frame: Frame) -> bool:
        """As of the lease."""
        return self._lease.take(frame)

    def pause(self) -> None:
        """As of the lease."""
        self._lease.pause()

    def give(self, visual: int | None = 0) -> None:
        """As of the lease."""
        self._lease.give(visual)
