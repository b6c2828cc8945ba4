"""A question whose answer is known, and what a model answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgevlm.errors import ContractError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A question about a picture.

    Args:
        picture: a path, or uint8 RGB ``(height, width, 3)``.
        question: as it is asked.
        answers: all that are accepted, at least one; the first says how answers are matched.
        kind: what scores are kept by.

    Raises:
        ContractError: no accepted answer.
    """

    picture: Any
    question: str
    answers: tuple[str, ...]
    kind: str

    def __post_init__(self) -> None:
        if not self.answers:
            raise ContractError(f"nothing is accepted as an answer to {self.question!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """What a model said to it.

    Args:
        example: the question.
        text: the answer.
        confidence: in [0, 1], the model's own or the bundle's calibrated one; None if it said
            nothing.
    """

    example: Example
    text: str
    confidence: float | None
