"""Whether an answer under way is still worth its tokens (``freshest``, ``--max-age``).

``max_age_s`` is hard: no answer older than that is given out. An answer ends

- at its *deadline*, one token before it would be too old;
- *superseded*, if a frame with another scene waits and this answer, by the median time of those
  before it, would break the bound in any case: the time is better spent on the newer frame.

At most one answer in a row is superseded, so that a scene that never rests gets answers too; of
two bounds' time at least one answer therefore comes out, if the model can give any within one.
Without a bound nothing is cancelled: every answer is finished, and as old as the model is slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Literal

from edgevlm.event import DropReason
from edgevlm.frame import Frame
from edgevlm.runtime.stream.clock import Clock

HISTORY = 16
LATE_IN_A_ROW = 3

Why = Literal["stopped", "deadline", "superseded"]


class Patience:
    """Asked between two tokens; one for a stream.

    Args:
        clock: of ages.
        max_age_s: the bound; None has none.
        stopped: ends an answer in any case.
        moved_on: whether a frame waits whose scene is another one than this frame's.
        pause: called between tokens first; others may have the model in the meantime.
    """

    def __init__(
        self,
        clock: Clock,
        max_age_s: float | None,
        stopped: Callable[[], bool],
        moved_on: Callable[[Frame], bool],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._bound_ns = None if max_age_s is None else round(max_age_s * 1e9)
        self._stopped = stopped
        self._moved_on = moved_on
        self._took_ns: deque[int] = deque(maxlen=HISTORY)  # whole answers
        self._frame: Frame | None = None
        self._begun_ns = self._last_ns = self._step_ns = 0
        self._spared = False  # the last answer was superseded, so this one is not
        self._late = 0
        self.why: Why | None = None

    def young(self, frame: Frame) -> bool:
        """True if an answer about this frame could be given out now."""
        age_ns = self._clock.monotonic_ns() - frame.monotonic_ns
        return self._bound_ns is None or age_ns <= self._bound_ns

    def begin(self, frame: Frame) -> None:
        """The answer about ``frame`` begins now."""
        self._frame, self.why, self._step_ns = frame, None, 0
        self._begun_ns = self._last_ns = self._clock.monotonic_ns()

    def over(self) -> bool:
        """True if no further token is to be begun; ``why`` says for what reason."""
        assert self._frame is not None
        now_ns = self._clock.monotonic_ns()
        if self._last_ns != self._begun_ns:  # before the first token lies the prefill
            self._step_ns = max(self._step_ns, now_ns - self._last_ns)
        self._pause()
        now_ns = self._last_ns = self._clock.monotonic_ns()
        if self._stopped():
            self.why = "stopped"
        elif self._bound_ns is not None:
            last_ns = self._frame.monotonic_ns + self._bound_ns
            if now_ns + self._step_ns >= last_ns:
                self.why = "deadline"
            elif self._hopeless(now_ns, last_ns) and self._moved_on(self._frame):
                self.why = "superseded"
        return self.why is not None

    def ended(self, whole: bool) -> bool:
        """The answer has ended, by itself if ``whole``; True if it is young enough to be given."""
        assert self._frame is not None
        now_ns = self._clock.monotonic_ns()
        self._spared = self.why == "superseded"
        if whole:
            self._took_ns.append(now_ns - self._begun_ns)
        young = self.young(self._frame)
        self._late = 0 if young else self._late + 1
        return young

    def reason(self, young: bool) -> DropReason:
        """Why a frame gets no answer whose answer was begun and is not given out."""
        if not young or self.why == "deadline":
            return "stale"
        return "shutdown" if self.why == "stopped" else "superseded"

    def overload(self) -> str | None:
        """Said once when answers keep coming too late."""
        if self._late != LATE_IN_A_ROW or self._bound_ns is None:
            return None
        assert self._frame is not None
        age_s = (self._clock.monotonic_ns() - self._frame.monotonic_ns) / 1e9
        return (
            f"{LATE_IN_A_ROW} answers in a row were older than the bound of "
            f"{self._bound_ns / 1e9:g} s and are not given out (the last: {age_s:.2f} s); a higher "
            "--max-age, a smaller model or fewer visual tokens would help"
        )

    def _hopeless(self, now_ns: int, last_ns: int) -> bool:
        if self._spared or not self._took_ns:
            return False
        return max(now_ns, self._begun_ns + round(median(self._took_ns))) > last_ns
