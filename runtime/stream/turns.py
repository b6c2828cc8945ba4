"""One model, many streams: each waits on its own thread until it is its turn.

Between two tokens the one that has the model looks whether another goes first, lends it, and takes
its own answer up again where it stood: every stream has a KV cache of its own, so that costs
nothing. What a graph has begun is finished: an encoder pass, a chunk of a prompt, a token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgevlm.frame import Frame
from edgevlm.runtime.stream.caps import Capped, Caps
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.handover import WAKE_S
from edgevlm.runtime.stream.schedule import NEVER_NS, Schedule


class Turns:
    """Hands the model from stream to stream.

    Args:
        schedule: says who goes first.
        stopped: ends the wait of those that have not begun.
        clock: of the schedule.
    """

    def __init__(
        self, schedule: Schedule, stopped: Callable[[], bool], clock: Clock = SYSTEM
    ) -> None:
        self._schedule = schedule
        self._stopped = stopped
        self._clock = clock
        self._change = threading.Condition()
        self._holder: str | None = None

    def take(self, name: str, due_ns: int) -> bool:
        """Wait for the model; False if the run is stopped before."""
        with self._change:
            self._schedule.ask(name, self._clock.monotonic_ns(), due_ns)
            self._hand_on()
            while self._holder != name:
                if self._stopped():
                    self._schedule.withdraw(name)
                    return False
                self._change.wait(WAKE_S)
                self._hand_on()  # tokens come in with time, and nobody says so
            return True

    def pause(self, name: str) -> int:
        """Let others go first while they are more urgent; nanoseconds that it took."""
        with self._change:
            begun_ns = self._clock.monotonic_ns()
            if not self._schedule.preempted(name, begun_ns):
                return 0
            self._schedule.lend(name, begun_ns)
            self._holder = None
            self._hand_on()
            while self._holder != name:
                self._change.wait(WAKE_S)
                self._hand_on()
            return self._clock.monotonic_ns() - begun_ns

    def give(self, name: str, visual: int | None) -> None:
        """The answer has ended; ``visual`` as in ``Schedule.end``."""
        with self._change:
            self._schedule.end(name, self._clock.monotonic_ns(), visual)
            self._holder = None
            self._hand_on()

    def _hand_on(self) -> None:
        if self._holder is None:
            now_ns = self._clock.monotonic_ns()
            self._holder = self._schedule.next(now_ns)
            if self._holder is not None:
                self._schedule.begin(self._holder, now_ns)
                self._change.notify_all()


class TurnLease:
    """One stream's hold on a model that others use too; see ``Lease``.

    Args:
        turns: of the model.
        name: of the stream.
        within_s: an answer is due so long after its frame arrived; None: at no time.
        capped: what streams may use at most.
    """

    shared = True

    def __init__(
        self, turns: Turns, name: str, within_s: float | None, capped: Capped | None = None
    ) -> None:
        self.paused_ms = 0.0
        self._turns = turns
        self._name = name
        self._within_ns = None if within_s is None else round(within_s * 1e9)
        self._held = False
        self._capped = capped or Capped()

    @property
    def caps(self) -> Caps:
        """What the stream may use at most, at present."""
        return self._capped.now

    def take(self, frame: Frame) -> bool:
        """Wait until it is this stream's turn; False if the run is stopped before that."""
        self.paused_ms = 0.0
        due_ns = NEVER_NS if self._within_ns is None else frame.monotonic_ns + self._within_ns
        self._held = self._turns.take(self._name, due_ns)
        return self._held

    def pause(self) -> None:
        """Between two tokens."""
        if self._held:
            self.paused_ms += self._turns.pause(self._name) / 1e6

    def give(self, visual: int | None = 0) -> None:
        """Give the model back; nothing if it is not held."""
        if self._held:
            self._held = False
            self._turns.give(self._name, visual)
