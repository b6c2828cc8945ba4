"""Guess what an answer will say, from what was said before; the decoder checks the guess.

Sources: speculative decoding, Leviathan et al., 2023, section 3.3 (how many tokens to draft);
drafting by n-gram look-up instead of a second model: inference with reference, Yang et al., 2023,
section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

ROW_COST = 0.25  # of a step, for a drafted row behind the second: see benchmarks/stream_decoding.py
FREE_ROWS = 1  # a step is two rows wide, and the second may as well be a guess
LONGEST = 32
NGRAM = 3  # tokens that are looked up at most
REST_STEPS = 16  # with nothing drafted, before the next try
LOSS_ALLOWED = 2.0  # steps, and
LOSS_SHARE = 0.02  # this share of all steps: drafting never costs more than that
KEPT_ANSWERS = 8
BEGIN, END = -2, -3  # stand before and behind every answer


@dataclass(slots=True)
class _Record:
    """How often guesses of one kind were right, older ones counting less."""

    right: float
    made: float

    @property
    def rate(self) -> float:
        return self.right / self.made

    def note(self, made: int, right: int) -> None:
        # The first wrong guess says nothing about those behind it.
        tried = min(made, right + 1)
        keep = 0.97**tried
        self.right = self.right * keep + right
        self.made = self.made * keep + tried


@dataclass(slots=True)
class Drafts:
    """What the answers of one stream teach about the next one. Not shared between streams.

    Hand the same to ``Vlm.ask`` again and again. The length of a draft follows from counts alone,
    never from a clock, so that a replay drafts the same.
    """

    _answers: list[tuple[int, ...]] = field(default_factory=list)
    _before: _Record = field(default_factory=lambda: _Record(2.0, 2.5))
    _within: _Record = field(default_factory=lambda: _Record(1.0, 3.0))
    _steps: int = 0
    _loss: float = 0.0  # steps
    _rested: int = 0

    def begin(self, prompt: Sequence[int], stop_ids: frozenset[int]) -> Drafter:
        """A drafter of one answer."""
        return Drafter(self, prompt, stop_ids)

    def end(self, answer: Sequence[int]) -> None:
        """Keep an answer, without its end token."""
        said = tuple(answer)
        if said in self._answers:
            self._answers.remove(said)
        self._answers = [*self._answers[1 - KEPT_ANSWERS :], said]

    def become(self, other: Drafts) -> None:
        """Take over what another one has learnt, as of answers that another process gave."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))

    @property
    def answers(self) -> list[tuple[int, ...]]:
        """The last answers, newest last."""
        return self._answers

    def length(self, before: bool, room: int) -> int:
        """How many tokens are worth a guess.

        The expected tokens of a pass with k drafted ones are 1 + p + ... + p^k, its cost is
        1 + ``ROW_COST`` for every one behind the free row.
        """
        rate = (self._before if before else self._within).rate
        best, best_value, expected, power = 0, 1.0, 1.0, 1.0
        for count in range(1, min(room, LONGEST) + 1):
            power *= rate
            expected += power
            value = expected / (1.0 + self._cost(count))
            if value > best_value:
                best, best_value = count, value
        affordable = LOSS_ALLOWED + LOSS_SHARE * self._steps - self._loss
        while best and self._cost(best) > affordable:
            best -= 1
        self._rested = 0 if best > FREE_ROWS else self._rested + 1
        if self._rested > REST_STEPS and min(room, LONGEST) > FREE_ROWS:
            self._rested = 0
            if self._cost(FREE_ROWS + 1) <= affordable:
                return FREE_ROWS + 1
        return best

    def note(self, before: bool, made: int, right: int, replayed: int) -> None:
        """What became of a pass's draft."""
        self._steps += 1
        if made:
            (self._before if before else self._within).note(made, right)
        lost = self._cost(made) + replayed - right
        self._loss = max(-LOSS_ALLOWED, self._loss + lost)

    @staticmethod
    def _cost(count: int) -> float:
        return ROW_COST * max(0, count - FREE_ROWS)


class Drafter:
    """Guesses for one answer.

    Args:
        drafts: what the stream's answers taught.
        prompt: token ids of the question, below 0 where there is no token.
        stop_ids: never guessed: no row stands behind them.
    """

    def __init__(self, drafts: Drafts, prompt: Sequence[int], stop_ids: frozenset[int]) -> None:
        self._drafts = drafts
        self._stop_ids = stop_ids
        self._old = _Index()
        for answer in drafts.answers:
            self._old.extend((BEGIN, *answer, END))
        self._new = _Index()
        self._new.extend((*prompt, BEGIN))
        self._answer: list[int] = []
        self._before = False

    def said(self, token: int) -> None:
        """The answer goes on with this token."""
        self._answer.append(token)
        self._new.extend((token,))

    def propose(self, room: int) -> list[int]:
        """Tokens that may come next, at most ``room``."""
        ending = self._new.ending
        found = self._old.behind(ending, self._stop_ids)
        self._before = bool(found)
        if not found:
            found = self._new.behind(ending, self._stop_ids)
        if not found or room < 1:
            return []
        return found[: self._drafts.length(self._before, min(room, len(found)))]

    def outcome(self, made: int, right: int, replayed: int) -> None:
        """Of ``made`` guesses of the last proposal the first ``right`` were right.

        Args:
            made: drafted rows.
            right: rows that the answer went on with.
            replayed: calls that were made again because of the others.
        """
        self._drafts.note(self._before, made, right, replayed)

    def end(self) -> None:
        """The answer is complete: keep it for the next one."""
        self._drafts.end([t for t in self._answer if t not in self._stop_ids])


class _Index:
    """A growing list of tokens, and where each run of up to ``NGRAM`` of them was last followed."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}

    @property
    def ending(self) -> tuple[int, ...]:
        """The last tokens."""
        return tuple(self._tokens[-NGRAM:])

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens."""
        for token in tokens:
            place = len(self._tokens)
            if token >= 0:
                for size in range(1, min(NGRAM, place) + 1):
                    self._places[tuple(self._tokens[place - size :])] = place
            self._tokens.append(token)

    def behind(self, ending: tuple[int, ...], stop_ids: frozenset[int]) -> list[int]:
        """What followed the longest run that ``ending`` ends with; the newest place counts."""
        for start in range(len(ending)):
            place = self._places.get(ending[start:])
            if place is not None:
                break
        else:
            return []
        found: list[int] = []
        for token in self._tokens[place : place + LONGEST]:
            if token < 0 or token in stop_ids:
                break
            found.append(token)
        return found
