"""States of one stream: its rules, fed with answers, told as events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgevlm.answer import Answer
from edgevlm.event import AnswerEvent
from edgevlm.frame import Frame
from edgevlm.rules import RuleSection
from edgevlm.runtime.stream.compose import answer_event, state_event
from edgevlm.runtime.stream.rules import Rules
from edgevlm.runtime.stream.sinks.base import Told


class States:
    """Looks at every frame that has an answer, its own or one that still stands.

    Args:
        sections: the rules.
        stream: name of the stream.
        next_seq: gives the next event's number.
        degraded: what every event says.
    """

    def __init__(
        self,
        sections: Sequence[RuleSection],
        stream: str,
        next_seq: Callable[[], int],
        degraded: tuple[str, ...],
    ) -> None:
        self._rules = Rules(sections)
        self._stream = stream
        self._next_seq = next_seq
        self.degraded = degraded
        self._told: dict[str, tuple[Mapping[str, Any], int]] = {}  # by question

    def answered(
        self, told: AnswerEvent, frame: Frame, answer: Answer, now_s: float
    ) -> Iterator[Told]:
        """States that begin or end with a new answer."""
        if self._rules:
            self._told[told.question] = told.model_dump(mode="json"), told.seq
            yield from self._changes(told.question, frame, answer, now_s, again=False)

    def stands(self, question: str, frame: Frame, answer: Answer, now_s: float) -> Iterator[Told]:
        """States that begin or end because the last answer still stands at ``now_s``."""
        if self._rules:
            yield from self._changes(question, frame, answer, now_s, again=True)

    def _changes(
        self, question: str, frame: Frame, answer: Answer, now_s: float, *, again: bool
    ) -> Iterator[Told]:
        size, (body, seq) = frame.pixels.size_wh, self._told[question]
        for change in self._rules.see(body, size, seq, now_s):
            shown = answer_event(
                self._stream,
                self._next_seq(),
                frame,
                answer,
                question=question,
                reused_of=seq if again else None,
                pending=({}, 0),
                degraded=self.degraded,
            )
            yield Told(state_event(change, shown), frame)
