"""Questions about generated pictures, as many of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgevlm.export.nano_data.picture import Picture, Question
from edgevlm.runtime.device.evaluation.example import Example
from edgevlm.runtime.device.evaluation.matching import answered_by

EACH = 4  # questions about one picture
PICTURES = 5  # times as many pictures are drawn at most as questions of a kind are wanted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posed:
    """A question with the picture's whole truth beside it.

    Args:
        picture: what is in it.
        question: as the generator gave it.
        example: the same, as it is asked and scored.
    """

    picture: Picture
    question: Question
    example: Example


def posed(picture: Picture, question: Question, kind: str | None = None) -> Posed:
    """A question as it is scored: yes or no apart from other answers of its kind.

    Args:
        picture: what it is about.
        question: the question.
        kind: what its score is kept by, in the place of its own kind.
    """
    answers = question.answer, *question.accepted
    kept = kind or question.kind
    if kind is None and answered_by(answers) == "yes-no" and question.kind != "presence":
        kept = f"{question.kind}, yes or no"
    example = Example(picture=picture.image_rgb, question=question.text, answers=answers, kind=kept)
    return Posed(picture=picture, question=question, example=example)


def chosen(
    drawn: Iterable[tuple[Picture, Sequence[Question]]],
    count: int,
    kinds: Sequence[str] | None = None,
) -> list[Posed]:
    """Questions of the drawn pictures until there are ``count`` of every kind.

    Of a picture those are taken of whose kind there are fewest so far, at most ``EACH``. Kinds that
    too few pictures allow stay below ``count``.

    Args:
        drawn: pictures with their questions.
        count: of each kind.
        kinds: kinds that are taken; None takes all.
    """
    have: Counter[str] = Counter()
    found: list[Posed] = []
    for number, (picture, questions) in enumerate(drawn):
        if number and (number >= PICTURES * count or min(have.values()) >= count):
            break
        can = [posed(picture, question) for question in questions]
        can = [p for p in can if kinds is None or p.question.kind in kinds]
        taken: set[str] = set()
        for one in sorted(can, key=lambda p: have[p.example.kind]):
            kind = one.example.kind
            if len(taken) == EACH:
                break
            if kind not in taken and have[kind] < count:
                taken.add(kind)
                have[kind] += 1
                found.append(one)
            have.setdefault(kind, 0)
    return found
