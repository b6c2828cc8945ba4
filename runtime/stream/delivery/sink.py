"""A sink over a network: an outbox, and a courier that empties it."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

from edgevlm.bundle.cache import cache_folder
from edgevlm.errors import SinkError
from edgevlm.runtime.stream.delivery.courier import Channel, Courier
from edgevlm.runtime.stream.delivery.outbox import Outbox
from edgevlm.runtime.stream.sinks.base import Told

CLOSE_S = 5.0


class DeliveredSink:
    """Events to a receiver that may be away: at least once, in order, each with an id.

    Args:
        name: printable, without credentials; it also names the outbox where no path is given.
        channel: makes the way to the receiver, on the courier's thread.
        outbox: where events wait; None takes a file in the cache folder.

    Raises:
        SinkError: the outbox cannot be opened, or another run delivers from it.
    """

    def __init__(self, name: str, channel: Callable[[], Channel], outbox: Path | None) -> None:
        self.name = name
        self._run = uuid.uuid4().hex
        if outbox is None:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            outbox = cache_folder() / "outbox" / f"{digest}.db"
        self._outbox = Outbox(outbox)
        self._courier: Courier | None = Courier(self._outbox, channel)

    def write(self, told: Told) -> None:
        """Put one event into the outbox and go on.

        Raises:
            SinkError: what happened since the last event: delivery broke down or went on, events
                were refused or pushed out, or the disk takes none.
        """
        event = told.event
        if self._courier is None:
            raise SinkError(f"{self.name} is closed")
        said = self._courier.take_said()
        try:
            pushed = self._outbox.append(
                f"{self._run}/{event.stream}/{event.seq or 0}",
                event.model_dump_json(),
                alarm=event.kind == "state",
            )
            if pushed:
                said.append(f"the outbox is full: the {pushed} oldest events are lost")
        except sqlite3.Error as exc:
            said.append(f"an event is lost, {self._outbox.path} takes none: {exc}")
        self._courier.nudge()
        if said:
            raise SinkError(f"{self.name}: {'; '.join(said)}")

    def close(self) -> None:
        """Deliver what waits, for up to ``CLOSE_S``; what then still waits is for the next run.

        Raises:
            SinkError: events wait, or the receiver refused some.
        """
        if self._courier is None:
            return
        courier, self._courier = self._courier, None
        ended = courier.close(CLOSE_S)
        try:
            waiting = self._outbox.waiting()
        finally:
            self._outbox.close()
        lost = courier.take_refused()
        if waiting or not ended:
            why = courier.trouble or "the receiver is slow"
            lost.append(f"{waiting} events wait in {self._outbox.path} ({why})")
        if lost:
            raise SinkError(f"{self.name}: {'; '.join(lost)}")
