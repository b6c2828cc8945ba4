"""Your thing, found again in a picture.

::

    picture ─ patches ─ like the thing more than what lay beside it ─ peaks
    each peak ─ looked at closer ─ its box ─ the box alone ─ cosine with every picture of the thing

Patches of a middle stage say where, the encoder's last stage says whether. A place whose cosine is
under the thing's threshold is not it: a picture without the thing gives none.

Source: Personalize Segment Anything Model with One Shot (Zhang et al., 2023), section 3.1, for the
peaks; prototypes of what lies beside the thing and the second look are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.errors import ContractError
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.places import contrast, outside, places
from edgevlm.runtime.perception.seen import see
from edgevlm.runtime.perception.things import Thing
from edgevlm.runtime.perception.windows import Box, UInt8, cut, parts, vector, whole_output, window

CANDIDATES = 4  # peaks that are looked at closer
ALONE = 1.1  # sides of a box that is looked at alone
_CLOSER = 2.0  # sides of a peak's box, in the second look
_LEAST = 16  # pixels of a side that is looked at
_FIRST, _SECOND = 0.5, 0.2  # of a peak, where its cells end
_MARGIN = 0.25  # of a peak's box: what lies further out is not of it
_SAME = 0.4  # overlap over which two boxes are one place
_NEAR = 0.3  # likewise, of what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A place, and what it may be.

    Args:
        name: of the thing.
        box_xyxy: left, top, right, bottom, in pixels of the picture.
        score: cosine with the most similar picture of the thing, in [-1, 1].
        threshold: of the thing; the place shows it where the score is at least that.
    """

    name: str
    box_xyxy: Box
    score: float
    threshold: float

    @property
    def accepted(self) -> bool:
        """Whether it is taken for the thing."""
        return self.score >= self.threshold

    @property
    def margin(self) -> float:
        """By how much it is over its threshold; negative where it is not."""
        return self.score - self.threshold

    def told(self) -> dict[str, Any]:
        """As JSON says it."""
        return {
            "thing": self.name,
            "score": round(self.score, 4),
            "threshold": round(self.threshold, 4),
            "box_xyxy": [round(edge, 1) for edge in self.box_xyxy],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What was found in a picture.

    Args:
        found: places that show a thing, the surest first.
        rejected: places that were looked at and show none, the nearest to one first.
    """

    found: tuple[Located, ...]
    rejected: tuple[Located, ...]


def locate(
    model: Vlm,
    image: Any,
    things: Sequence[Thing],
    *,
    small: bool = False,
    encoded: Encoded | None = None,
) -> Location:
    """Find things that were taught.

    Args:
        model: the bundle that they were taught with.
        image: a picture, as in ``Vlm.ask``.
        things: at least one, each of another name.
        small: look at four overlapping parts of the picture too, for things that are a tenth of it
            and less; it takes three times as long.
        encoded: what ``Vlm.encode`` gave for the picture, where somebody has it.

    Raises:
        ContractError: no thing, or a bundle without what this needs.
        ImageError: a picture that cannot be taken.
    """
    if not things:
        raise ContractError("nothing to locate: edgevlm teach --thing makes a bank of a thing")
    picture = picture_of(model, image)
    every = [one for thing in things for one in look(model, picture, thing, small, encoded)]
    every.sort(key=lambda one: -one.margin)
    kept: list[Located] = []
    for one in every:
        if all(overlap(one.box_xyxy, other.box_xyxy) < _NEAR for other in kept):
            kept.append(one)
    return Location(
        found=tuple(one for one in kept if one.accepted),
        rejected=tuple(one for one in kept if not one.accepted),
    )


def picture_of(model: Vlm, image: Any) -> UInt8:
    """A picture as the model takes it, uint8 RGB.

    Raises:
        ImageError: a picture that cannot be taken.
    """
    spec = model.bundle.manifest.image
    return load_image(image, "drop" if spec is None else spec.alpha)


def look(
    model: Vlm,
    picture: UInt8,
    thing: Thing,
    small: bool = False,
    encoded: Encoded | None = None,
) -> list[Located]:
    """Places that may show one thing, accepted or not, in the order of their peaks."""
    size = (picture.shape[0], picture.shape[1])
    output = whole_output(model.bundle.manifest)
    found = []
    for box in _peaks(model, picture, thing, small, encoded):
        closer = _closer(model, picture, thing, box)
        alone = model.encode(cut(picture, window(closer, ALONE, size)))
        score = float((thing.looks @ vector(alone, output)).max())
        found.append(
            Located(
                name=thing.name,
                box_xyxy=closer,
                score=min(1.0, score),
                threshold=thing.rule.threshold,
            )
        )
    return found


def _peaks(
    model: Vlm, picture: UInt8, thing: Thing, small: bool, encoded: Encoded | None
) -> list[Box]:
    size = (picture.shape[0], picture.shape[1])
    matcher, found = model.matcher(), []
    for part in [(0, 0, size[1], size[0]), *(parts(size) if small else [])]:
        first = part == (0, 0, size[1], size[0])
        shown = encoded if first and encoded is not None else cut(picture, part)
        seen = see(model, shown)
        for place in places(seen, contrast(seen, thing, matcher), CANDIDATES, _FIRST):
            found.append((place.peak, _moved(place.box_xyxy, part[0], part[1])))
    kept: list[Box] = []
    for _, box in sorted(found, key=lambda pair: -pair[0]):
        if all(overlap(box, other) < _SAME for other in kept):
            kept.append(box)
    return kept[: CANDIDATES + 2 if small else CANDIDATES]


def _closer(model: Vlm, picture: UInt8, thing: Thing, box: Box) -> Box:
    """The box of what is at a peak, from a look at its surroundings alone."""
    part = window(box, _CLOSER, (picture.shape[0], picture.shape[1]), _LEAST)
    seen, matcher = see(model, cut(picture, part)), model.matcher()
    beside = outside(seen, _moved(box, -part[0], -part[1]), _MARGIN)
    best = places(seen, contrast(seen, thing, matcher, beside), 1, _SECOND)[0]
    return _moved(best.box_xyxy, part[0], part[1])


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def overlap(one: Box, other: Box) -> float:
    """What two boxes share, of what they cover together, in [0, 1]."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return wide * tall / max(areas - wide * tall, 1e-9)
