"""Questions about what is in a picture, so that no answer can be guessed without looking.

Every question exists in pairs of answers that come equally often: ``yes`` and ``no``, ``left`` and
``right``; counts and colours follow from how scenes are made. What a picture cannot tell is asked
too, and answered with ``CANNOT_TELL``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgevlm.export.nano_data.colours import COLOURS
from edgevlm.export.nano_data.english import NUMBERS, is_plural, listed, plural, with_article
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import Picture, Question, QuestionKind, SeenThing

CANNOT_TELL = "I cannot tell"
_APART = 0.14  # of a side: two centres that are nearer are neither left nor right of one another
_LARGER = 1.5  # times the area
_HIDDEN = (
    "What is the name of the {name}?", "How old is the {name}?", "Who owns the {name}?",
    "What does the {name} cost?", "Where was the {name} bought?", "How heavy is the {name}?",
    "What is behind the {name}?",
)  # fmt: skip
_NOWHERE = (
    "What colour is the {name}?", "Is the {name} on the left or on the right?",
    "Which is larger, the {name} or the {other}?",
    "Is the {name} to the left or to the right of the {other}?",
    "Is the {name} above or below the {other}?",
)  # fmt: skip
_TIMES = ("What time is it?", "What is written on the sign?", "What does the gauge show?",
          "What number is shown?", "What day is it?", "Who took this picture?")  # fmt: skip


def answers_to(name: str) -> set[str]:
    """Everything that names the same, more generally too."""
    return {name, *also_called(name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks about pictures of things.

    Args:
        vocabulary: names that could be in a picture, for questions about what is not there.
    """

    vocabulary: Sequence[str]

    def questions(self, picture: Picture, rng: np.random.Generator) -> list[Question]:
        """Every kind of question that the picture allows, in random order, its own among them."""
        found = list(picture.questions)
        if picture.things:
            scene = _Scene(picture, rng, self.vocabulary)
            for ask in _ASKED:
                asked = ask(scene)
                found += [asked] if asked is not None else []
        return [found[n] for n in rng.permutation(len(found))]


class _Scene:
    def __init__(
        self, picture: Picture, rng: np.random.Generator, vocabulary: Sequence[str]
    ) -> None:
        self.side = picture.image_rgb.shape[0]
        self.width = picture.image_rgb.shape[1]
        self.things = picture.things
        self.family = picture.family
        self.rng = rng
        self.count = Counter(t.name for t in picture.things)
        self.shown = {n for t in picture.things for n in answers_to(t.name) | set(t.also)}
        self._vocabulary = vocabulary
        # Those that their name alone means: no other thing may be called so.
        self.named = [
            t for t in picture.things
            if self.count[t.name] == 1
            and not any(t.name in answers_to(o.name) for o in picture.things if o is not t)
        ]  # fmt: skip

    def pick(self, things: Sequence[SeenThing]) -> SeenThing:
        return things[int(self.rng.integers(len(things)))]

    def said(self, *forms: str) -> str:
        return forms[int(self.rng.integers(len(forms)))]

    def absent(self) -> str:
        """A name of nothing that is there."""
        while True:
            name = self._vocabulary[int(self.rng.integers(len(self._vocabulary)))]
            if not answers_to(name) & self.shown:
                return name

    def pair(
        self, fits: Callable[[SeenThing, SeenThing], bool]
    ) -> tuple[SeenThing, SeenThing] | None:
        """Two of those that their names mean, in random order."""
        pairs = [(a, b) for a in self.named for b in self.named if a is not b and fits(a, b)]
        return pairs[int(self.rng.integers(len(pairs)))] if pairs else None


def _centre(thing: SeenThing) -> tuple[float, float]:
    x0, y0, x1, y1 = thing.box_xyxy
    return (x0 + x1) / 2, (y0 + y1) / 2


def _area(thing: SeenThing) -> int:
    return int(thing.mask.sum())


def _the(name: str) -> str:
    return f"the {name}"


def _presence(scene: _Scene) -> Question:
    if scene.rng.random() < 0.5:
        thing = scene.pick(scene.things)
        names = [thing.name, *also_called(thing.name)]
        # Its own name as often as all the more general ones together.
        general = len(names) > 1 and scene.rng.random() < 0.4
        name = names[int(scene.rng.integers(1, len(names)))] if general else names[0]
        answer = "yes"
    else:
        name, answer = scene.absent(), "no"
        wider = also_called(name)
        if wider and scene.rng.random() < 0.3:
            word = wider[int(scene.rng.integers(len(wider)))]
            name = word if word not in scene.shown else name
    verb = "Are" if is_plural(name) else "Is"
    form = scene.said(
        "{verb} there {a} in the picture?", "{verb} there {a}?", "Can you see {a}?",
        "Does the picture show {a}?",
    )  # fmt: skip
    return Question(
        kind="presence", text=form.format(verb=verb, a=with_article(name)), answer=answer
    )


def _count(scene: _Scene) -> Question | None:
    if any(is_plural(t.name) for t in scene.things):
        return None
    chance = scene.rng.random()
    if chance < 0.2:
        number = len(scene.things)
        return _number(
            scene.said("How many things are there?", "How many things can you see?"), number
        )
    if chance < 0.3:
        return _number(f"How many {plural(scene.absent())} are there?", 0)
    name = scene.pick(scene.things).name
    # Of several kinds, the one that comes most often half of the time.
    if scene.rng.random() < 0.5:
        name = scene.count.most_common(1)[0][0]
    if scene.count[name] == 1 and scene.rng.random() < 0.7:
        return None
    others = [t for t in scene.things if t.name != name]
    if any(name in answers_to(t.name) for t in others):
        return None
    form = scene.said("How many {p} are there?", "How many {p} can you see?", "Count the {p}.")
    return _number(form.format(p=plural(name)), scene.count[name])


def _number(text: str, number: int) -> Question:
    return Question(kind="count", text=text, answer=str(number), accepted=(NUMBERS[number],))


def _colour(scene: _Scene) -> Question | None:
    named = [t for t in scene.named if t.colour is not None]
    if not named:
        return None
    thing = scene.pick(named)
    assert thing.colour is not None
    if scene.rng.random() < 0.25:
        right = scene.rng.random() < 0.5
        others = [c for c in COLOURS if c != thing.colour]
        colour = thing.colour if right else others[int(scene.rng.integers(len(others)))]
        text = f"Is {_the(thing.name)} {colour}?"
        return Question(kind="colour", text=text, answer="yes" if right else "no")
    form = scene.said("What colour is {the}?", "Which colour does {the} have?")
    return Question(kind="colour", text=form.format(the=_the(thing.name)), answer=thing.colour)


def _side(scene: _Scene) -> Question | None:
    """On which side of the picture a thing is."""
    across = scene.rng.random() < 0.6
    size, n = (scene.width, 0) if across else (scene.side, 1)
    apart = [t for t in scene.named if abs(_centre(t)[n] / size - 0.5) > _APART]
    if not apart:
        return None
    thing = scene.pick(apart)
    before = _centre(thing)[n] < size / 2
    if across:
        form = scene.said(
            "Is {the} on the left or on the right?", "On which side is {the}, left or right?"
        )
        answer = "left" if before else "right"
        accepted: tuple[str, ...] = (f"on the {answer}",)
    else:
        form = scene.said("Is {the} at the top or at the bottom?", "Where is {the}, top or bottom?")
        answer = "top" if before else "bottom"
        accepted = (f"at the {answer}",)
    return Question(
        kind="where", text=form.format(the=_the(thing.name)), answer=answer, accepted=accepted
    )


def _relation(scene: _Scene) -> Question | None:
    """How two things stand to one another."""
    across = scene.rng.random() < 0.6
    size, n = (scene.width, 0) if across else (scene.side, 1)
    found = scene.pair(lambda a, b: abs(_centre(a)[n] - _centre(b)[n]) > _APART * size)
    if found is None:
        return None
    a, b = found
    before = _centre(a)[n] < _centre(b)[n]
    words = ("left", "right") if across else ("above", "below")
    answer = words[0] if before else words[1]
    if across:
        text = f"Is {_the(a.name)} to the left or to the right of {_the(b.name)}?"
        accepted: tuple[str, ...] = (f"to the {answer}", f"to the {answer} of {_the(b.name)}")
    else:
        text = f"Is {_the(a.name)} above or below {_the(b.name)}?"
        accepted = ()
    return Question(kind="where", text=text, answer=answer, accepted=accepted)


def _larger(scene: _Scene) -> Question | None:
    found = scene.pair(lambda a, b: max(_area(a), _area(b)) > _LARGER * min(_area(a), _area(b)))
    if found is None:
        return None
    a, b = found
    word = scene.said("larger", "bigger", "smaller")
    greatest = max(found, key=_area) if word != "smaller" else min(found, key=_area)
    text = f"Which is {word}, {_the(a.name)} or {_the(b.name)}?"
    return Question(kind="larger", text=text, answer=greatest.name, accepted=(_the(greatest.name),))


def _name(scene: _Scene) -> Question | None:
    """What one thing is, among others that are elsewhere."""
    things = scene.things
    if len(things) == 1 or len(scene.count) == 1:
        thing = things[0]
        several = len(things) > 1
        text = (
            scene.said("What are these?", "What can you see?") if several
            else scene.said("What is this?", "What is in the picture?",
                            "What is the main thing in this picture?")
        )  # fmt: skip
    else:
        ends = {
            "on the left": min(things, key=lambda t: _centre(t)[0]),
            "on the right": max(things, key=lambda t: _centre(t)[0]),
            "at the top": min(things, key=lambda t: _centre(t)[1]),
            "at the bottom": max(things, key=lambda t: _centre(t)[1]),
        }
        clear = [w for w, t in ends.items() if _stands_out(t, w, scene)]
        if not clear:
            return None
        where = scene.said(*clear)
        thing, text, several = ends[where], f"What is {where}?", False
    accepted = tuple(also_called(thing.name)) + thing.also
    return Question(
        kind="name", text=text,
        answer=plural(thing.name) if several else thing.name,
        accepted=accepted + ((thing.name, *map(plural, accepted)) if several else ()),
    )  # fmt: skip


def _stands_out(thing: SeenThing, where: str, scene: _Scene) -> bool:
    n, size = (0, scene.width) if where.endswith(("left", "right")) else (1, scene.side)
    sign = 1 if where.endswith(("left", "top")) else -1
    mine = sign * _centre(thing)[n]
    return all(sign * _centre(o)[n] - mine > _APART * size for o in scene.things if o is not thing)


def _in_box(scene: _Scene) -> Question | None:
    thing = scene.pick(scene.things)
    text = f"What is in the box {box_text(thing, scene.width, scene.side)}?"
    return Question(
        kind="in box", text=text, answer=thing.name,
        accepted=tuple(also_called(thing.name)) + thing.also,
    )  # fmt: skip


def box_text(thing: SeenThing, width: int, height: int) -> str:
    """A box as ``[x0, y0, x1, y1]``, in twentieths of the picture, from 0 to 100."""
    x0, y0, x1, y1 = thing.box_xyxy
    edges = [5 * round(20 * v) for v in (x0 / width, y0 / height, x1 / width, y1 / height)]
    return json.dumps(edges, separators=(",", ":"))


def _json(scene: _Scene) -> Question | None:
    if not scene.named:
        return None
    thing = scene.pick(scene.named)
    box = box_text(thing, scene.width, scene.side)
    text = f"Give {_the(thing.name)} as JSON with its box."
    answer = f'{{"name":"{thing.name}","box":{box}}}'
    return Question(kind="json", text=text, answer=answer)


def _describe(scene: _Scene) -> Question:
    seen: dict[str, list[SeenThing]] = {}
    for thing in sorted(scene.things, key=lambda t: _centre(t)[0]):
        seen.setdefault(thing.name, []).append(thing)
    parts = []
    for name, things in seen.items():
        number, colour = len(things), things[0].colour
        if number == 1:
            whole = f"{colour} {name}" if colour and colour not in name.split() else name
            parts.append(with_article(whole))
        else:
            parts.append(f"{NUMBERS[number]} {plural(name)}")
    sentence = listed(parts)
    text = scene.said("Describe the picture in one sentence.", "What can you see in the picture?")
    return Question(kind="describe", text=text, answer=sentence[0].upper() + sentence[1:] + ".")


def _unanswerable(scene: _Scene) -> Question:
    chance = scene.rng.random()
    if chance < 0.5:
        name, other = scene.absent(), scene.pick(scene.things).name
        text = scene.said(*_NOWHERE).format(name=name, other=other)
    elif chance < 0.85 or scene.family != "cut-outs":
        text = scene.said(*_HIDDEN).format(name=scene.pick(scene.things).name)
    else:
        text = scene.said(*_TIMES)
    return Question(kind="unanswerable", text=text, answer=CANNOT_TELL)


_ASKED: tuple[Callable[[_Scene], Question | None], ...] = (
    _presence, _presence, _count, _count, _colour, _side, _relation, _larger, _name, _name, _in_box,
    _json, _describe, _unanswerable,
)  # fmt: skip
KINDS: tuple[QuestionKind, ...] = (
    "presence", "count", "colour", "where", "larger", "name", "in box", "number", "text", "state",
    "describe", "json", "unanswerable",
)  # fmt: skip
