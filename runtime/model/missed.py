"""What was asked for and is not there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Missed:
    """A backend that was asked for and could not be used.

    Args:
        backend: its name.
        target: of ``edgevlm build``, where a build could help.
        reason: one sentence.
    """

    backend: str
    target: str | None
    reason: str
