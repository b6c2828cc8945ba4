"""From a few pictures of a thing to what it is found again by.

Every picture is looked at from near and from far, so that patches match whatever the thing's size:
a middle stage of a convolutional encoder knows textures at the size at which it saw them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.runtime.model.matching import Patches, joined
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.bank import encoder_of
from edgevlm.runtime.perception.coreset import thinned
from edgevlm.runtime.perception.locate import ALONE, look, overlap, picture_of
from edgevlm.runtime.perception.places import inside, outside
from edgevlm.runtime.perception.seen import see
from edgevlm.runtime.perception.things import Thing, ThingRule, checked_name
from edgevlm.runtime.perception.variations import variations
from edgevlm.runtime.perception.windows import (
    Box,
    UInt8,
    checked_box,
    cut,
    vector,
    whole_output,
    window,
)
from edgevlm.tensors import Float32

SHOTS_AT_MOST = 5
FRONT, BACK = 2048, 2048  # patches that are kept
_AWAY = (1.2, 2.0, 4.0)  # sides of the box that are looked at
_OWN = 0.8  # share of the patches in a box that are taken for the thing's
_TOUCHES = 0.05  # overlap with the box over which a place is the thing itself
# Scores of other things, and of the thing itself, that are met on drawn scenes with the stamps that
# may be trained on (`python -m benchmarks.locate --split training`): the threshold is between.
_UNLIKE, _LIKE = 0.66, 0.80
_BETWEEN = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A picture of a thing.

    Args:
        image: a picture, as in ``Vlm.ask``.
        box_xyxy: where the thing is in it, in pixels; None where the picture is a crop of it.
    """

    image: Any
    box_xyxy: Box | None = None


def teach_thing(
    model: Vlm,
    name: str,
    shots: Sequence[Shot],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Thing:
    """Learn what a thing looks like; no weight changes.

    Args:
        model: a bundle with the head ``heads/match``.
        name: what it is called.
        shots: 1 to ``SHOTS_AT_MOST`` pictures of it, all with a box or all crops.
        progress: told after every picture.

    Raises:
        ContractError: none or too many pictures, some with and some without a box, a box that is
            not in its picture, a name that is none, or a bundle without what this needs.
        ImageError: a picture that cannot be taken.
    """
    checked_name(name)
    if not 1 <= len(shots) <= SHOTS_AT_MOST:
        raise ContractError(
            f"{len(shots)} pictures of {name!r}: wanted 1 to {SHOTS_AT_MOST}; choose those that "
            "differ most"
        )
    boxed = [shot.box_xyxy is not None for shot in shots]
    if any(boxed) != all(boxed):
        raise ContractError(
            f"{sum(boxed)} of {len(shots)} pictures of {name!r} have a box: give all of them one, "
            "or crops of all"
        )
    output = whole_output(model.bundle.manifest)
    pictures = [picture_of(model, shot.image) for shot in shots]
    boxes = [
        checked_box(shot.box_xyxy, (picture.shape[0], picture.shape[1]), f"box {n}")
        if shot.box_xyxy is not None
        else None
        for n, (shot, picture) in enumerate(zip(shots, pictures, strict=True), 1)
    ]
    front, back, looks = [], [], []
    for n, (picture, box) in enumerate(zip(pictures, boxes, strict=True), 1):
        for own, beside in _views(model, picture, box):
            front.append(own)
            back.append(beside)
        looks.append(_alone(model, picture, box, output))
        progress(f"picture {n} of {len(shots)}")
    own, beside = joined(front), joined(back)
    if len(beside) and all(boxed):
        similarity, _ = model.matcher().match(own, beside)
        kept = max(1, round(_OWN * len(own)))
        own = own.chosen(np.sort(np.argsort(similarity, kind="stable")[:kept]))
    rule = ThingRule(
        encoder=encoder_of(model.bundle.manifest),
        name=name,
        pictures=len(shots),
        boxed=all(boxed),
        like=_like(model, np.stack(looks), pictures[0], boxes[0], output),
        unlike=(),
        threshold=1.0,
    )
    thing = Thing(
        rule=rule,
        front=thinned(own, FRONT),
        back=thinned(beside, BACK) if len(beside) and all(boxed) else None,
        looks=np.stack(looks),
    )
    unlike: list[float] = []
    for picture, box in zip(pictures, boxes, strict=True):
        if box is not None:
            unlike += _beside(model, picture, box, thing)
    progress("threshold")
    said = {"unlike": tuple(unlike), "threshold": threshold(rule.like, unlike)}
    return replace(thing, rule=rule.model_copy(update=said))


def threshold(like: Sequence[float], unlike: Sequence[float]) -> float:
    """The score from which a place shows the thing.

    A third of the way from what else there is to the thing itself, and never over what the
    thing's own pictures reach.

    Args:
        like: scores of the thing, at least one.
        unlike: scores of places that are not it, any number.
    """
    high = min(_LIKE, *like)
    low = max(_UNLIKE, *unlike) if unlike else _UNLIKE
    return min(high, low + _BETWEEN * (high - low)) if high > low else high


def _views(model: Vlm, picture: UInt8, box: Box | None) -> list[tuple[Patches, Patches]]:
    """Patches of the thing, and beside it, from near and from far."""
    found = []
    for times in _AWAY:
        if box is None:
            shown, own = _framed(picture, times)
        else:
            part = window(box, times, (picture.shape[0], picture.shape[1]))
            shown = cut(picture, part)
            own = (box[0] - part[0], box[1] - part[1], box[2] - part[0], box[3] - part[1])
        seen = see(model, shown)
        found.append((inside(seen, own), outside(seen, own, 0.0)))
    return found


def _framed(crop: UInt8, times: float) -> tuple[UInt8, Box]:
    """A crop within a plain square, in the mean colour of its edge, and where it is."""
    height, width = crop.shape[:2]
    side = max(round(max(height, width) * (times / _AWAY[0])), height, width)
    edge = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = np.rint(edge.mean(axis=0))
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = crop
    return canvas, (float(left), float(top), float(left + width), float(top + height))


def _alone(model: Vlm, picture: UInt8, box: Box | None, output: str) -> Float32:
    size = (picture.shape[0], picture.shape[1])
    shown = picture if box is None else cut(picture, window(box, ALONE, size))
    return vector(model.encode(shown), output)


def _like(
    model: Vlm, looks: Float32, picture: UInt8, box: Box | None, output: str
) -> tuple[float, ...]:
    """Every picture of the thing against the others; of one alone, against its variations."""
    if len(looks) > 1:
        cosines = looks @ looks.T
        np.fill_diagonal(cosines, -1)
        return tuple(float(min(1.0, best)) for best in cosines.max(axis=1))
    size = (picture.shape[0], picture.shape[1])
    crop = picture if box is None else cut(picture, window(box, ALONE, size))
    others = [vector(model.encode(changed), output) for changed in variations(crop)]
    return tuple(float(min(1.0, looks[0] @ other)) for other in others)


def _beside(model: Vlm, picture: UInt8, box: Box, thing: Thing) -> list[float]:
    """Scores of places beside the thing in a picture of it."""
    return [
        one.score for one in look(model, picture, thing) if overlap(one.box_xyxy, box) < _TOUCHES
    ]
