"""What answers are worth: by kind of question, against guessing, and in pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edgevlm.errors import ContractError
from edgevlm.runtime.device.evaluation.example import Answered, Example
from edgevlm.runtime.device.evaluation.matching import (
    answered_by,
    is_refusal,
    is_right,
    words,
)
from edgevlm.runtime.device.evaluation.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of questions of one kind.

    Args:
        kind: of them.
        right: answers that are.
        blind: answers that are right without the picture; None where nobody asked.
        majority: right answers, were the one answer that is right most often given to all.
        pairs: questions in the same words about two pictures with different answers, both right;
            no question is in two pairs.
        yes: right ones of those to be answered with yes.
        no: right ones of those to be answered with no.
        false_yes: of the latter, those that were answered with yes.
        refused: of those with an answer, those that were refused one.
    """

    kind: str
    right: Share
    blind: Share | None
    majority: Share
    pairs: Share
    yes: Share
    no: Share
    false_yes: Share
    refused: Share


def scores(answers: Sequence[Answered], blind: Sequence[Answered] | None = None) -> list[Score]:
    """A score for every kind, in the order of their first questions.

    Args:
        answers: to all questions.
        blind: answers to the same questions, in the same order, without the pictures.

    Raises:
        ContractError: ``blind`` answers other questions.
    """
    if blind is not None and [b.example for b in blind] != [a.example for a in answers]:
        raise ContractError("blind answers must be to the same questions in the same order")
    kinds: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(answers):
        kinds[one.example.kind].append(number)
    return [
        _score(
            kind,
            [answers[n] for n in numbers],
            None if blind is None else [blind[n] for n in numbers],
        )
        for kind, numbers in kinds.items()
    ]


def judged(answers: Sequence[Answered]) -> list[bool]:
    """Which answers are right, each among all answers that its kind of question has here."""
    others: dict[str, set[str]] = defaultdict(set)
    for one in answers:
        if answered_by(one.example.answers) == "words":
            others[one.example.kind].update(one.example.answers)
    return [is_right(one.text, one.example.answers, others[one.example.kind]) for one in answers]


def _score(kind: str, answers: list[Answered], blind: list[Answered] | None) -> Score:
    examples = [one.example for one in answers]
    right = judged(answers)
    yes = [n for n, e in enumerate(examples) if words(e.answers[0]) == ("yes",)]
    no = [n for n, e in enumerate(examples) if words(e.answers[0]) == ("no",)]
    open_to = [n for n, e in enumerate(examples) if answered_by(e.answers) != "refusal"]
    return Score(
        kind=kind,
        right=_share(right),
        blind=None if blind is None else _share(judged(blind)),
        majority=Share(_best_constant(examples), len(examples)),
        pairs=_share([right[a] and right[b] for a, b in pairs(examples)]),
        yes=_share([right[n] for n in yes]),
        no=_share([right[n] for n in no]),
        false_yes=_share([words(answers[n].text)[:1] == ("yes",) for n in no]),
        refused=_share([is_refusal(answers[n].text) for n in open_to]),
    )


def _share(right: Sequence[bool]) -> Share:
    return Share(sum(right), len(right))


def _best_constant(examples: Sequence[Example]) -> int:
    """How many questions the answer is right for that is right most often."""
    guesses = dict.fromkeys(e.answers[0] for e in examples)
    return max(sum(is_right(guess, e.answers) for e in examples) for guess in guesses)


def pairs(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Questions in the same words whose answers differ: places of both, each place once."""
    same: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        same[words(example.question)].append(number)
    found = []
    for numbers in same.values():
        left = list(numbers)
        while left:
            first = left.pop(0)
            for other in left:
                if _differ(examples[first], examples[other]):
                    found.append((first, other))
                    left.remove(other)
                    break
    return found


def _differ(a: Example, b: Example) -> bool:
    return not (is_right(a.answers[0], b.answers) or is_right(b.answers[0], a.answers))
