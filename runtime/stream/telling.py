"""What a stream says about a frame, question by question, and which answers stand."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.event import AnswerEvent
from edgevlm.frame import Frame
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.compose import answer_event
from edgevlm.runtime.stream.looking import Looked
from edgevlm.runtime.stream.sinks.base import Told
from edgevlm.runtime.stream.standing import Standing
from edgevlm.runtime.stream.states import States


def whole(answer: Answer) -> bool:
    """The model, or the budget of tokens, has ended it; nothing has cut it short."""
    return answer.finish_reason in ("stop", "length")


class Telling:
    """Makes a stream's events about frames, under the stream's numbers.

    Args:
        config: of the stream.
        account: its books: an event tells of drops since the one before.
        degraded: what every event says.
    """

    def __init__(self, config: RunConfig, account: Account, degraded: tuple[str, ...]) -> None:
        self._name = config.name
        self._questions = [question.text for question in config.ask]
        self._standing = [Standing(config.policy.reuse_every_s) for _ in config.ask]
        self._account = account
        self._degraded = degraded
        self._states = States(config.rules, config.name, self.next_seq, degraded)
        self._seq = 0

    def next_seq(self) -> int:
        """The number of the stream's next event, which is then taken."""
        self._seq += 1
        return self._seq - 1

    @property
    def everything(self) -> tuple[int, ...]:
        """The numbers of all questions."""
        return tuple(range(len(self._questions)))

    @property
    def lacking(self) -> tuple[int, ...]:
        """Those without an answer that stands: none was given yet, or it was cut short."""
        return tuple(n for n, stands in enumerate(self._standing) if stands.answer is None)

    def degrade(self, degraded: tuple[str, ...]) -> None:
        """What every event says from now on."""
        self._degraded = self._states.degraded = degraded

    def another_model(self, degraded: tuple[str, ...]) -> None:
        """No answer stands any more."""
        self.degrade(degraded)
        for stands in self._standing:
            stands.answer = None

    def answered(self, frame: Frame, answers: Mapping[int, Answer], now_s: float) -> Iterator[Told]:
        """New answers by the numbers of their questions, and the states that begin or end."""
        for number, answer in answers.items():
            standing = answer if whole(answer) else None
            self._standing[number].answered(standing, self._seq, now_s)
            yield Told(event := self._event(number, frame, answer, reused_of=None), frame)
            yield from self._states.answered(event, frame, answer, now_s)

    def stands(
        self, looked: Looked, age_ms: float, numbers: Sequence[int]
    ) -> Generator[Told, None, bool]:
        """Answers that stand, where they are due to be told again; the states likewise.

        Returns:
            whether one was told.
        """
        frame, now_s, told = looked.view.frame, looked.view.now_s, False
        for number in numbers:
            stands = self._standing[number]
            assert stands.answer is not None
            answer = looked.once_more(stands.answer, age_ms)
            if stands.tell(now_s):
                told = True
                yield Told(self._event(number, frame, answer, reused_of=stands.seq), frame)
            yield from self._states.stands(self._questions[number], frame, answer, now_s)
        return told

    def _event(
        self, number: int, frame: Frame, answer: Answer, reused_of: int | None
    ) -> AnswerEvent:
        return answer_event(
            self._name,
            self.next_seq(),
            frame,
            answer,
            question=self._questions[number],
            reused_of=reused_of,
            pending=self._account.take_pending(),
            degraded=self._degraded,
        )
