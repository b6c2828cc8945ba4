"""A picture as questions see it: which names mean one thing only, and what is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import Picture, SeenThing

APART = 0.14  # of a side: two centres that are nearer are neither left nor right of one another


def answers_to(name: str) -> set[str]:
    """Everything that names the same, more generally too."""
    return {name, *also_called(name)}


class AskedScene:
    """What there is to ask about.

    Args:
        picture: with its things.
        rng: chooses.
        vocabulary: names that could be there.
    """

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
        """One of them."""
        return things[int(self.rng.integers(len(things)))]

    def said(self, *forms: str) -> str:
        """One way to say it."""
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


def centre(thing: SeenThing) -> tuple[float, float]:
    """Of its box, x and y in pixels."""
    x0, y0, x1, y1 = thing.box_xyxy
    return (x0 + x1) / 2, (y0 + y1) / 2


def area_of(thing: SeenThing) -> int:
    """Pixels that show it."""
    return int(thing.mask.sum())


def the(name: str) -> str:
    """With the definite article."""
    return f"the {name}"
