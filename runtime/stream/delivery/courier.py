"""Carry events from the outbox to their receiver, for as long as it takes."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from edgevlm.runtime.stream.delivery.outbox import Message, Outbox
from edgevlm.runtime.stream.handover import Background

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
IDLE_S = 1.0
AT_ONCE = 32


class Undelivered(Exception):
    """The receiver did not take events now.

    Args:
        reason: printable, without credentials.
        taken: how many of the events it took before.
        wait_s: how long it wants to be left alone, where it says so.
    """

    def __init__(self, reason: str, taken: int = 0, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.taken = taken
        self.wait_s = wait_s


class Refused(Exception):
    """The receiver will never take the first of the events that it did not take.

    Args:
        reason: printable, without credentials.
        taken: how many it took before that one.
    """

    def __init__(self, reason: str, taken: int = 0) -> None:
        super().__init__(reason)
        self.taken = taken


def retry_pause_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row: spread, and up to a minute.

    Args:
        failures: from 1.
        chance: in [0, 1).
    """
    longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + 0.5 * chance)


def rest(wait: Callable[[float], bool], seconds: float) -> bool:
    """Wait so long, whatever nudges come meanwhile; False as soon as the work is to end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not wait(left):
            return False
    return True


class Channel(Protocol):
    """A way to a receiver. Used from the courier's thread only."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Hand over events in order; every wait in here is bounded.

        Raises:
            Undelivered: try again later.
            Refused: try never again.
        """
        ...

    def idle(self) -> None:
        """Called about once a second while there is nothing to deliver.

        Raises:
            Undelivered: the connection is gone.
        """
        ...

    def close(self) -> None:
        """Say good-bye, in bounded time. Legal in every state."""
        ...


class Courier:
    """Delivers an outbox in the background, in order, at least once.

    Args:
        outbox: read here, on a connection of its own.
        channel: made here, so that a receiver that is down does not hold up the start.
        jitter: a number in [0, 1) for the spread of the waits.
    """

    def __init__(
        self,
        outbox: Outbox,
        channel: Callable[[], Channel],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._make = channel
        self._jitter = jitter
        self._said: deque[str] = deque(maxlen=100)
        self._refused: deque[str] = deque(maxlen=100)
        self._trouble = ""
        self._background = Background("edgevlm-delivery", self._work)

    def nudge(self) -> None:
        """There is something new in the outbox."""
        self._background.nudge()

    def take_said(self) -> list[str]:
        """What is to be told since the last call: delivery broke down or went on, or a refusal."""
        said = [self._said.popleft() for _ in range(len(self._said))]
        return said + self.take_refused()

    def take_refused(self) -> list[str]:
        """The events that the receiver will never take, since the last call of either."""
        return [self._refused.popleft() for _ in range(len(self._refused))]

    @property
    def trouble(self) -> str:
        """Why nothing is delivered at present; empty while delivery goes on."""
        return self._trouble

    def close(self, timeout_s: float) -> bool:
        """Deliver once more what waits, then stop; False if the time did not suffice."""
        return self._background.end(timeout_s)

    def _work(self, wait: Callable[[float], bool]) -> None:
        going, failures, down = True, 0, False
        with closing(self._outbox.connection()) as db, closing(self._make()) as channel:
            while going:
                pause = IDLE_S
                try:
                    if not self._carry(db, channel):
                        channel.idle()
                    if down:
                        self._said.append("delivery goes on")
                    failures, down, self._trouble = 0, False, ""
                except (Undelivered, sqlite3.Error) as exc:
                    failures += 1
                    if not down:
                        self._said.append(f"events wait in {self._outbox.path}: {exc}")
                    down, self._trouble = True, str(exc)
                    pause = self._pause(failures, getattr(exc, "wait_s", None))
                going = wait(pause) if not down else rest(wait, pause)
            if not down:
                self._last_time(db, channel)

    def _pause(self, failures: int, wanted_s: float | None) -> float:
        pause = retry_pause_s(failures, self._jitter())
        return pause if wanted_s is None else min(max(pause, wanted_s), LONGEST_RETRY_S)

    def _carry(self, db: sqlite3.Connection, channel: Channel) -> bool:
        """Deliver until nothing waits; True if anything did.

        Raises:
            Undelivered: the rest waits.
        """
        carried = False
        while messages := Outbox.first(db, AT_ONCE):
            carried = True
            try:
                channel.deliver(messages)
            except Undelivered as exc:
                Outbox.taken(db, messages[: exc.taken])
                raise
            except Refused as exc:
                Outbox.taken(db, messages[: exc.taken + 1])
                self._refused.append(f"{messages[exc.taken].event} is lost: {exc}")
            else:
                Outbox.taken(db, messages)
        return carried

    def _last_time(self, db: sqlite3.Connection, channel: Channel) -> None:
        try:
            self._carry(db, channel)
        except (Undelivered, sqlite3.Error) as exc:
            self._trouble = str(exc)
