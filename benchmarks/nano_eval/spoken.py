"""Sentences and boxes in answers, held against what is in the picture."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from benchmarks.nano_eval.posed import Posed
from edgevlm.export.nano_data.picture import Picture, SeenThing
from edgevlm.export.nano_data.questions import answers_to
from edgevlm.runtime.device.evaluation.matching import is_right, named_in
from edgevlm.runtime.device.evaluation.share import Share

SAME_BOX = 0.5  # overlap from which on a box is of the thing
Edges = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What descriptions say.

    Args:
        named: things that a description names, of all things.
        invented: descriptions that name something that is not there, of all descriptions.
    """

    named: Share
    invented: Share


def described(asked: Sequence[tuple[Posed, str]], vocabulary: Collection[str]) -> Described:
    """Hold descriptions against pictures.

    Args:
        asked: questions with what was answered.
        vocabulary: names that count as invented where they are not shown.
    """
    named = total = invented = 0
    for one, said in asked:
        things = [_names(thing) for thing in one.picture.things]
        there = {name for names in things for name in names}
        found = named_in(said, there | set(vocabulary))
        total += len(things)
        named += sum(any(name in names for name in found) for names in things)
        invented += any(name not in there for name in found)
    return Described(named=Share(named, total), invented=Share(invented, len(asked)))


def _names(thing: SeenThing) -> set[str]:
    return answers_to(thing.name) | set(thing.also)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxed:
    """What answers in JSON say.

    Args:
        valid: those that are an object with a name and a box.
        named: those whose name is right.
        overlaps: intersection over union of every box with the thing's, 0 where there is none.
    """

    valid: Share
    named: Share
    overlaps: tuple[float, ...]

    @property
    def found(self) -> Share:
        """Boxes that overlap the thing by ``SAME_BOX`` or more."""
        return Share(sum(v >= SAME_BOX for v in self.overlaps), len(self.overlaps))


def boxed(asked: Sequence[tuple[Posed, str]]) -> Boxed:
    """Hold answers in JSON, with boxes in hundredths of the picture, against pictures."""
    valid, named, overlaps = 0, 0, []
    for one, said in asked:
        thing = next(
            t for t in one.picture.things if t.name == json.loads(one.question.answer)["name"]
        )
        name, box = read_box(said) or ("", None)
        valid += box is not None
        named += is_right(name, sorted(_names(thing)))
        overlaps.append(0.0 if box is None else overlap(box, _hundredths(thing, one.picture)))
    count = len(asked)
    return Boxed(valid=Share(valid, count), named=Share(named, count), overlaps=tuple(overlaps))


def read_box(said: str) -> tuple[str, Edges] | None:
    """Name and box of an answer; None if it is not such an object."""
    try:
        value = json.loads(said)
        name, edges = value["name"], value["box"]
        x0, y0, x1, y1 = (float(v) for v in edges)
    except (ValueError, TypeError, KeyError):
        return None
    return (name, (x0, y0, x1, y1)) if isinstance(name, str) else None


def overlap(a: Edges, b: Edges) -> float:
    """Intersection over union of two boxes; 0 for one that is turned inside out."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if min(wide, high, a[2] - a[0], a[3] - a[1]) <= 0:
        return 0.0
    common = wide * high
    return common / (sum((e[2] - e[0]) * (e[3] - e[1]) for e in (a, b)) - common)


def _hundredths(thing: SeenThing, picture: Picture) -> Edges:
    height, width = picture.image_rgb.shape[:2]
    x0, y0, x1, y1 = thing.box_xyxy
    return 100 * x0 / width, 100 * y0 / height, 100 * x1 / width, 100 * y1 / height
