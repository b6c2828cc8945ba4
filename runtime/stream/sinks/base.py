"""What a sink is: something that takes events, with the frames that they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from edgevlm.event import DropReason, Event
from edgevlm.frame import Frame

Decision = Literal["answer", "reuse", "fail"]


@dataclass(frozen=True, slots=True)
class Told:
    """One event, and the frame that it is about where there is one."""

    event: Event
    frame: Frame | None = None


class Sink(Protocol):
    """Where events go. Written to from one thread, in the order of the events."""

    @property
    def name(self) -> str:
        """A printable name, without credentials."""
        ...

    def write(self, told: Told) -> None:
        """Take one event; what cannot be delivered now is kept for later as the sink promises.

        Raises:
            SinkError: delivery broke down or went on again: the run tells it as a fault.
        """
        ...

    def close(self) -> None:
        """Deliver what is left and release everything. Legal in every state, any number of times.

        Raises:
            SinkError: events are lost; the message says how many.
        """
        ...


@runtime_checkable
class Watcher(Protocol):
    """A sink that also wants to know of every frame, before the events that the frame has."""

    def seen(
        self,
        frame: Frame,
        do: Decision,
        dropped: Mapping[DropReason, int],
        asks: Sequence[int] = (),
    ) -> None:
        """A frame was looked at.

        Args:
            frame: the frame.
            do: it got an answer of its own, the last one stands, or the model failed.
            dropped: all drops of the stream so far, by reason.
            asks: numbers of the questions that were answered, where answers to others stood.

        Raises:
            SinkError: as ``write``.
        """
        ...
