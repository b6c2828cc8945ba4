"""A picture with everything that is known about it: what every generator of training data gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.nano_data.composition import Box, Composition
from edgevlm.frame import UInt8

Family = Literal["cut-outs", "renders", "inspection", "gauges", "print"]
QuestionKind = Literal[
    "presence", "count", "colour", "where", "in box", "larger", "name", "number", "text", "state",
    "describe", "json", "unanswerable",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenThing:
    """One thing in a picture.

    Args:
        name: what it is called, in lower case and without article: ``zebra``.
        also: other names that a person would accept, ``("horse",)``; more general ones too.
        group: what kind of thing it is: ``animals``, ``food`` ...
        colour: of most of it, one of the eleven basic ones; None where no colour prevails.
        box_xyxy: in pixels of the picture, the right and lower edge outside.
        mask: bool ``(height, width)`` of the picture, its visible pixels.
    """

    name: str
    group: str
    colour: str | None
    box_xyxy: Box
    mask: NDArray[np.bool_]
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about a picture and its answer.

    Args:
        kind: what it asks for; scores are kept by kind.
        text: as a person would put it.
        answer: in as few words as do, without a full stop: ``yes``, ``2``, ``on the left``.
        accepted: further answers that are right.
    """

    kind: QuestionKind
    text: str
    answer: str
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture, what is in it, and what only its generator can ask about it.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.
        family: of scenes; a whole family can be held out.
        scene: what it was made from, so that scenes of one origin stay on one side of a split.
        things: the hindmost first.
        questions: beyond those that ``things`` allow.
    """

    image_rgb: UInt8
    family: Family
    scene: str
    things: tuple[SeenThing, ...] = ()
    questions: tuple[Question, ...] = field(default=())


def of_composition(composition: Composition, scene: str) -> Picture:
    """A composed picture, its cut-outs as things; those that are mostly hidden are left out."""
    things = tuple(
        SeenThing(
            name=thing.name,
            group=thing.placement.stamp.kind,
            colour=thing.colour,
            box_xyxy=thing.box_xyxy,
            mask=thing.mask,
        )
        for thing in composition.things
        if thing.seen >= SEEN_AT_LEAST
    )
    return Picture(image_rgb=composition.image_rgb, family="cut-outs", scene=scene, things=things)


SEEN_AT_LEAST = 0.5
