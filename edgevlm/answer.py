"""What one question to the model gave, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgevlm.errors import ContractError

FinishReason = Literal["stop", "length", "deadline", "cancelled"]
AnswerKind = Literal["answer", "detection", "anomaly"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds spent per stage, for one frame or question.

    Args:
        wait: from arrival until somebody took the frame.
        gate: deciding whether the scene changed.
        preprocess: pixels to the encoder's input, prompt to tokens.
        encode: the vision encoder.
        prefill: the prompt through the decoder, first token included.
        decode: all further tokens.
        total: from the arrival of the frame (or the call) to the answer.

    Raises:
        ContractError: a negative or non-finite stage.
    """

    wait: float = 0.0
    gate: float = 0.0
    preprocess: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    total: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ContractError(f"timing {name!r} must be finite and >= 0 ms, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens of one answer.

    Args:
        visual: rows of pictures, part of the prompt.
        prompt: of the prompt.
        output: of the answer.
        drafted: guessed before they were computed.
        accepted: guesses that were right.
        forced: of the output, those that a schema left no choice about.
    """

    visual: int = 0
    prompt: int = 0
    output: int = 0
    drafted: int = 0
    accepted: int = 0
    forced: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFrame:
    """A frame that the model saw, where it was shown several.

    Args:
        frame: index in its source.
        age_s: how much older it is than the newest one shown.
        stood_s: for how long after it the scene was unchanged.
        tokens: visual rows that it got.
    """

    frame: int
    age_s: float
    stood_s: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The model's answer.

    Args:
        text: decoded output without special tokens.
        token_ids: what was generated after the prompt, the end token included.
        finish_reason: ``stop`` the model ended, ``length`` the token budget did,
            ``deadline`` the time budget did, ``cancelled`` the caller did.
        timings_ms: cost per stage.
        tokens: counts.
        backend: which backend answered.
        answer: the parsed object, where a schema was given.
        confidence: geometric mean of the chosen tokens' probabilities, in [0, 1]; None if no
            token was generated. Under a schema, among the tokens that it allows.
        field_confidence: probability of each value of ``answer`` among the values legal in its
            place, in [0, 1], by JSON pointer.
        window: the frames shown, oldest first, where a stream has a window.
        calibrated: both are scaled to be shares of right answers, as the bundle says; else they
            are the model's own.
        kind: of the event that tells it; other than ``answer`` where a task gave it.
        boxes_xyxy: left, top, right, bottom in pixels of the picture, where a task found any.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    timings_ms: Timing
    tokens: TokenCounts
    backend: str
    answer: Mapping[str, Any] | None = None
    confidence: float | None = None
    field_confidence: Mapping[str, float] = field(default_factory=dict)
    window: tuple[ShownFrame, ...] = ()
    calibrated: bool = False
    kind: AnswerKind = "answer"
    boxes_xyxy: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise ContractError(f"confidence must be in [0, 1], got {self.confidence}")
