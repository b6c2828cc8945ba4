"""The same question about two pictures whose answers differ, on purpose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from benchmarks.nano_eval.posed import Posed, posed
from edgevlm.export.nano_data.english import is_plural, plural, with_article
from edgevlm.export.nano_data.picture import Picture, Question, SeenThing
from edgevlm.export.nano_data.questions import answers_to

_APART = 0.14  # of the width, from the middle: as in the generator's questions


def paired(pictures: Sequence[Picture], names: Sequence[str], count: int) -> list[Posed]:
    """Balanced pairs of every kind, both questions one behind the other.

    Args:
        pictures: to choose from.
        names: what is asked for.
        count: pairs of each kind; there may be fewer.
    """
    found: list[Posed] = []
    for kind, ask in _QUESTIONS.items():
        pairs: list[tuple[Posed, Posed]] = []
        for name in names:
            by_answer: dict[str, list[Posed]] = defaultdict(list)
            for picture in pictures:
                if (question := ask(picture, name)) is not None:
                    one = posed(picture, question, f"{kind}, in pairs")
                    by_answer[question.answer].append(one)
            pairs += _differing(by_answer)
        few = (
            [pairs[n * len(pairs) // count] for n in range(count)] if count < len(pairs) else pairs
        )
        found += [one for pair in few for one in pair]
    return found


def _differing(by_answer: Mapping[str, list[Posed]]) -> list[tuple[Posed, Posed]]:
    """Pairs of two answers; every question in one at most, and each in turn."""
    left = {answer: list(reversed(some)) for answer, some in by_answer.items()}
    pairs = []
    while len(some := sorted((a for a in left if left[a]), key=lambda a: (-len(left[a]), a))) > 1:
        pairs.append((left[some[0]].pop(), left[some[1]].pop()))
    return pairs


def _called(picture: Picture, name: str) -> list[SeenThing] | None:
    """The things of this very name; None if another may be called so too."""
    mine = [thing for thing in picture.things if thing.name == name]
    others = (t for t in picture.things if t.name != name)
    return None if any(name in answers_to(t.name) | set(t.also) for t in others) else mine


def _presence(picture: Picture, name: str) -> Question | None:
    things = _called(picture, name)
    if things is None:
        return None
    verb = "Are" if is_plural(name) else "Is"
    text = f"{verb} there {with_article(name)} in the picture?"
    return Question(kind="presence", text=text, answer="yes" if things else "no")


def _count(picture: Picture, name: str) -> Question | None:
    things = _called(picture, name)
    if not things or is_plural(name):
        return None
    return Question(
        kind="count", text=f"How many {plural(name)} are there?", answer=str(len(things))
    )


def _colour(picture: Picture, name: str) -> Question | None:
    things = _called(picture, name)
    if things is None or len(things) != 1 or things[0].colour is None:
        return None
    return Question(kind="colour", text=f"What colour is the {name}?", answer=things[0].colour)


def _where(picture: Picture, name: str) -> Question | None:
    things = _called(picture, name)
    if things is None or len(things) != 1:
        return None
    left, _, right, _ = things[0].box_xyxy
    place = (left + right) / 2 / picture.image_rgb.shape[1] - 0.5
    if abs(place) < _APART:
        return None
    text = f"Is the {name} on the left or on the right?"
    answer = "left" if place < 0 else "right"
    return Question(kind="where", text=text, answer=answer, accepted=(f"on the {answer}",))


_QUESTIONS: dict[str, Callable[[Picture, str], Question | None]] = {
    "presence": _presence, "count": _count, "colour": _colour, "where": _where,
}  # fmt: skip
