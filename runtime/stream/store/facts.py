"""What is said of a stream between two moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_CHANGES = 50  # listed per stream; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """An answer that was told about a frame.

    Args:
        id: of the event in the store.
        at: when the frame was captured, RFC 3339.
        frame: its index in its source.
        question: to which it is the answer; empty in stores of before there were several.
        says: the object, where a schema was given, else the text.
        pictured: the store holds a small picture of the frame.
    """

    id: str
    at: str
    frame: int
    question: str
    says: Any
    pictured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An answer that differs from the one before it to the same question.

    Args:
        before: the earlier one.
        after: the later one.
        fields: of objects, those that differ: name -> (before, after).
    """

    before: Evidence
    after: Evidence
    fields: dict[str, tuple[Any, Any]]


@dataclass(slots=True, kw_only=True)
class StateChange:
    """A rule's state that began, ended, or was on.

    Args:
        rule: its name.
        began: RFC 3339; None if it was on when the time began.
        ended: None if it is still on at the end.
        evidence: ids of the answers on which it rests.
    """

    rule: str
    began: str | None = None
    ended: str | None = None
    evidence: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class StreamChanges:
    """What changed in one stream.

    Args:
        stream: its name.
        before: the answer that stood when the time began; None if none is kept.
        last: the last answer.
        answers: how many new ones there were.
        questions: to which they are the answers, in the order in which they were met.
        different: how many of them differ from the one before.
        changes: those, the first ``MOST_CHANGES``.
        said: how often each answer was given, as text.
        states: that began, ended or were on.
        dropped: frames that nobody looked at, by reason.
        faults: by code.
        doubts: what limits all this, in words; empty if the stream was watched all the time.
    """

    stream: str
    before: Evidence | None = None
    last: Evidence | None = None
    answers: int = 0
    questions: list[str] = field(default_factory=list)
    different: int = 0
    changes: list[Change] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    states: list[StateChange] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def in_words(says: Any) -> str:
    """An answer on one line."""
    if not isinstance(says, dict):
        return str(says)
    return ", ".join(f"{name} {value}" for name, value in says.items())
