"""What a gate is: something that says whether a frame needs an answer of its own."""

from __future__ import annotations

from typing import Protocol

from edgevlm.frame import Frame


class Gate(Protocol):
    """Decides for every frame of one stream whether the last answer still stands."""

    def changed(self, frame: Frame) -> bool:
        """True if the frame needs an answer of its own, as the first one does."""
        ...

    def moved_on(self, frame: Frame) -> bool:
        """True if a later frame shows another scene than the one last looked at, which stays so."""
        ...

    def accept(self) -> None:
        """The frame last looked at has been answered: later ones are compared with it."""
        ...
