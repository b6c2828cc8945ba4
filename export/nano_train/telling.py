"""Prompts as the runtime will write them: the encoder's labels, and what stands where.

The text tells what the picture shows, so the language model learns to read it, whatever the heads
will see. Where a thing has no name there, the encoder's labels name it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevlm.export.nano_data.composition import box_of
from edgevlm.export.nano_data.picture import Picture
from edgevlm.export.nano_train.cache import Told
from edgevlm.export.nano_train.packing import label_sentence
from edgevlm.scene_text import SceneThing, scene_text
from edgevlm.tensors import Array

Labels = tuple[tuple[str, float], ...]


def things_of(told: Told, cover: Array) -> list[SceneThing]:
    """The things of a cached picture.

    Args:
        told: names and colours.
        cover: uint8 ``(MOST, side, side)``, as the cache has it.
    """
    found = []
    for name, colour, share in zip(told.names, told.colours, cover, strict=False):
        if (thing := _thing(name, colour, share >= 128)) is not None:
            found.append(thing)
    return found


def things_in(picture: Picture) -> list[SceneThing]:
    """The things of a picture."""
    each = (_thing(t.name, t.colour, t.mask) for t in picture.things)
    return [thing for thing in each if thing is not None]


def _thing(name: str, colour: str | None, mask: Array) -> SceneThing | None:
    box = box_of(mask)
    if box is None:
        return None
    height, width = mask.shape
    left, top, right, bottom = box
    return SceneThing(
        name=name,
        colour=colour,
        box_xyxy=(left / width, top / height, right / width, bottom / height),
        area=float(mask.mean()),
    )


def unnamed(things: Sequence[SceneThing]) -> list[SceneThing]:
    """The same without their names."""
    return [
        SceneThing(name=None, colour=t.colour, box_xyxy=t.box_xyxy, area=t.area) for t in things
    ]


def shared(*sentences: str) -> str:
    """One text of those that say something."""
    return " ".join(s for s in sentences if s)


def telling(told: Told, cover: Array, labelled: float, rng: np.random.Generator) -> str:
    """The text of a cached picture, whose labels are left out with some chance."""
    labels = label_sentence(told.labels) if rng.random() < labelled else ""
    return shared(labels, scene_text(things_of(told, cover)))


def guessed(name: str, names: Sequence[str], rng: np.random.Generator) -> Labels:
    """Labels of which the first is right, with probabilities as an encoder may give them."""
    first = float(rng.uniform(0.3, 0.98))
    rest = sorted((float(p) for p in rng.dirichlet([0.5, 0.5]) * (1 - first)), reverse=True)
    others = [names[int(n)] for n in rng.integers(len(names), size=2)]
    return ((name, first), *zip(others, (min(p, first) for p in rest), strict=True))
