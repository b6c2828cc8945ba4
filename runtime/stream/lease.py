"""A stream's hold on the model: taken for one answer, lent between tokens, given back."""

from __future__ import annotations

from typing import Protocol

from edgevlm.frame import Frame
from edgevlm.runtime.stream.caps import UNCAPPED, Caps


class Lease(Protocol):
    """Asked by one stream, on its own thread."""

    @property
    def caps(self) -> Caps:
        """What the stream may use at most, at present."""
        ...

    @property
    def shared(self) -> bool:
        """True if frames may have come while ``take`` waited."""
        ...

    @property
    def paused_ms(self) -> float:
        """How long the model was with others since it was last taken."""
        ...

    def take(self, frame: Frame) -> bool:
        """Wait until the model is this stream's; False if the run is stopped before that."""
        ...

    def pause(self) -> None:
        """Between two tokens: let a stream go first that is more urgent, and take up again."""
        ...

    def give(self, visual: int | None = 0) -> None:
        """Give the model back; nothing if it is not held.

        Args:
            visual: tokens of pictures that went through the decoder; None: nobody knows.
        """
        ...


class Sole:
    """Of a stream that has its model alone."""

    caps = UNCAPPED
    shared = False
    paused_ms = 0.0

    def take(self, frame: Frame) -> bool:  # noqa: ARG002 - nobody else wants it
        """At once."""
        return True

    def pause(self) -> None:
        """Nobody waits."""

    def give(self, visual: int | None = 0) -> None:
        """It stays."""
