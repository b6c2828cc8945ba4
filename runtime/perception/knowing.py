"""Things that were taught, told to the language model by name, and a closer look for it.

The names of what is recognised, and where it is, stand as text before the question; nothing stands
there when nothing is recognised, so an unknown thing gets no name.

Source: RAP (Hao et al., 2025), section 3.1, with names and places in the prompt in place of
pictures; the rejection of what is not known is that of ``locate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.errors import ContractError
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.locate import Located, Location, locate, picture_of
from edgevlm.runtime.perception.sentence import position
from edgevlm.runtime.perception.things import Thing
from edgevlm.runtime.perception.windows import Box, Window, checked_box, cut, window

AROUND = 1.6  # sides of a thing's box that are shown of its surroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a question becomes, after a look at its pictures.

    Args:
        images: in their place: the same, or the part that was asked for.
        question: with what is known before it.
        found: known things in each picture, in pixels of it as it came.
        zoomed: the part that is shown, left, top, right, bottom; None where it is the whole.
    """

    images: tuple[Any, ...]
    question: str
    found: tuple[tuple[Located, ...], ...] = ()
    zoomed: Window | None = None


def look_first(
    model: Vlm,
    images: Sequence[Any],
    question: str,
    things: Sequence[Thing] = (),
    *,
    zoom: Box | str | None = None,
    small: bool = False,
) -> Look:
    """Recognise known things in pictures, and take the part that a question is about.

    Args:
        model: the bundle that the things were taught with.
        images: pictures, as in ``Vlm.ask``.
        question: about them.
        things: that are known; none changes nothing.
        zoom: left, top, right, bottom in pixels of the one picture, or the name of a thing.
        small: as in ``locate``.

    Raises:
        ContractError: a part of no picture or of several, a box that is not in it, or a thing that
            nobody taught or that is not there.
        ImageError: a picture that cannot be taken.
    """
    pictures = [picture_of(model, image) for image in images]
    seen = [locate(model, picture, things, small=small) for picture in pictures] if things else []
    found = tuple(one.found for one in seen)
    shown = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    part: Window | None = None
    if zoom is not None:
        if len(pictures) != 1:
            raise ContractError(f"a closer look is at one picture, got {len(pictures)}")
        size = (pictures[0].shape[0], pictures[0].shape[1])
        if isinstance(zoom, str):
            part = window(_of(zoom, things, seen), AROUND, size)
        else:
            x0, y0, x1, y1 = checked_box(zoom, size, "the part to look at")
            part = int(x0), int(y0), round(x1), round(y1)
        pictures = [cut(pictures[0], part)]
        shown = [(part[2] - part[0], part[3] - part[1])]
    told = [_places(ones, part or (0, 0, *size)) for ones, size in zip(found, shown, strict=False)]
    return Look(images=tuple(pictures), question=_told(told) + question, found=found, zoomed=part)


def known_text(found: Sequence[Located], source: tuple[int, int]) -> str:
    """What is known of one picture of ``(height, width)``, to stand before a question."""
    return _told([_places(found, (0, 0, source[1], source[0]))])


def _of(name: str, things: Sequence[Thing], seen: Sequence[Location]) -> Box:
    """The box of a thing that was found.

    Raises:
        ContractError: it is not known, or not there.
    """
    if name not in (names := [thing.name for thing in things]):
        raise ContractError(
            f"{name!r:.80} is neither a box nor a known thing"
            + (f"; known: {', '.join(names)}" if names else ", and none is known")
        )
    for one in seen[0].found:
        if one.name == name:
            return one.box_xyxy
    near = max((one.score for one in seen[0].rejected if one.name == name), default=-1.0)
    limit = next(thing.rule.threshold for thing in things if thing.name == name)
    raise ContractError(
        f"{name!r} is not in the picture: the likest place has {near:.2f}, and it begins at "
        f"{limit:.2f}"
    )


def _places(found: Sequence[Located], part: Window) -> list[str]:
    """Names and places within a part of the picture, of what has its middle there."""
    size, told = (part[3] - part[1], part[2] - part[0]), []
    for one in found:
        x0, y0, x1, y1 = one.box_xyxy
        if part[0] <= (x0 + x1) / 2 < part[2] and part[1] <= (y0 + y1) / 2 < part[3]:
            moved = (x0 - part[0], y0 - part[1], x1 - part[0], y1 - part[1])
            told.append(f"{one.name} ({position(moved, size)})")
    return told


def _told(places: Sequence[Sequence[str]]) -> str:
    """One sentence a picture with something known, each with a space behind it."""
    said = ""
    for number, names in enumerate(places, 1):
        if names:
            where = "the picture" if len(places) == 1 else f"picture {number}"
            said += f"Known things in {where}: {', '.join(names)}. "
    return said
