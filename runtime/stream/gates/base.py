"""What a gate is: something that says whether a frame needs an answer of its own."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from edgevlm.runtime.stream.gates.view import View

Verdict = Literal[
    "new",  # nothing against an answer: the next gate is asked
    "same",  # as the frame that was decided last: what was decided then stands
    "due",  # an answer in any case
    "moving",  # the view is in motion: no answer
    "absent",  # what is waited for is not in the picture: no answer
]


class Gate(Protocol):
    """Judges the frames of one stream that the gates before it let through.

    ``measure`` is what the last verdict rests on, for the summary: a share, a distance or a
    probability, as the gate's own page says; None where there is nothing to measure.
    """

    measure: float | None

    def look(self, view: View) -> Verdict:
        """The verdict on a frame.

        Raises:
            SourceError: the frame's pixels cannot be read.
            BackendError: the gate's model failed.
        """
        ...

    def settle(self, answered: bool) -> None:
        """What was looked at last is decided: later frames are compared with it.

        Args:
            answered: it got its answer; else a gate behind this one dropped it for good.
        """
        ...


@runtime_checkable
class Compares(Protocol):
    """A gate that can compare two frames without a model."""

    def moved_on(self, view: View) -> bool:
        """True if a later frame shows another scene than the one looked at, which stays so."""
        ...
