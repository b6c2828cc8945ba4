"""Plates with a few equal parts, of which one may be missing, odd, scratched or out of place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgevlm.export.nano_data.backgrounds import textured
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.canvas import Canvas, Rgb, seen_thing, turned
from edgevlm.export.nano_data.parts import KINDS, PAINT, Part, draw_part, shade
from edgevlm.export.nano_data.picture import Picture, Question, SeenThing

State = Literal["good", "missing", "colour", "scratched", "misaligned"]
FAULTS: tuple[State, ...] = ("missing", "colour", "scratched", "misaligned")
STATES: tuple[State, ...] = ("good", *FAULTS)
GRIDS = ((1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2))  # rows, columns
_PLATES: dict[str, tuple[Rgb, tuple[str, ...]]] = {  # its paint, and parts that it would hide
    "green board": ((28, 92, 58), ("green", "black")),
    "blue board": ((30, 58, 120), ("blue", "black", "purple")),
    "metal plate": ((176, 178, 182), ("grey", "white")),
    "black tray": ((52, 53, 56), ("black", "brown")),
    "wooden tray": ((196, 160, 112), ("brown", "orange", "yellow")),
    "white tray": ((226, 226, 222), ("white", "grey", "yellow")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    name: str
    part: Part
    owner: int


def inspection(rng: np.random.Generator, side: int = 224) -> Picture:
    """One plate under inspection, with questions about its state, its parts and their colour.

    Args:
        rng: chooses everything.
        side: of the square picture, pixels, at least 224.
    """
    # Every fault is as frequent as a good plate.
    state = STATES[int(rng.integers(len(STATES)))]
    # Of two, neither is the odd one; a washer has no room for a scratch.
    grids = [g for g in GRIDS if state != "colour" or g[0] * g[1] > 2]
    rows, columns = grids[int(rng.integers(len(grids)))]
    kind = str(rng.choice([k for k in KINDS if state != "scratched" or k != "washer"]))
    plate = str(rng.choice(list(_PLATES)))
    colours = [c for c in KINDS[kind].colours if c not in _PLATES[plate][1]]
    colour, odd = (str(c) for c in rng.choice(colours, 2, replace=False))
    lean = float(rng.uniform(-7, 7))
    canvas, places = _laid_out(rng, side, (rows, columns), (kind, colour), plate, lean)
    which = int(rng.integers(len(places)))
    for at, place in enumerate(places):
        part = place.part
        if at == which:
            if state == "missing":
                continue
            if state == "colour":
                part = replace(part, colour=odd)
            if state == "misaligned":
                part = _misaligned(part, rng)
        draw_part(canvas, part, place.owner)
        if at == which and state == "scratched":
            _scratch(canvas, part, rng)
    image, owners = canvas.finish()
    also = KINDS[kind].also
    seen = [seen_thing(image, owners, p.owner, kind.lower(), "parts", also) for p in places]
    told = _Told(kind, colour, odd, state, places[which].name, len(places))
    return Picture(
        image_rgb=photographed(image, rng),
        family="inspection",
        scene=f"{kind} {rows}x{columns} {plate}",
        things=tuple(thing for thing in seen if thing is not None),
        questions=tuple(_questions(told, [t for t in seen if t is not None], rng)),
    )


def _laid_out(
    rng: np.random.Generator,
    side: int,
    grid: tuple[int, int],
    what: tuple[str, str],
    plate: str,
    lean: float,
) -> tuple[Canvas, list[_Place]]:
    """The plate with its empty places, and the parts that belong there."""
    rows, columns = grid
    ground = textured((side, side), rng)
    canvas = Canvas(ground)
    middle = side / 2, side / 2
    # A plate has the shape of its grid.
    width = side * float(rng.uniform(0.8, 0.94))
    height = width * (1.0 if rows == columns else 0.62 if rows < columns else 1.0)
    if rows > columns:
        width *= 0.62
    rgb = shade(_PLATES[plate][0], float(rng.uniform(0.85, 1.1)))
    dx, dy = width / 2, height / 2
    x, y = middle
    corners = [(x - dx, y - dy), (x + dx, y - dy), (x + dx, y + dy), (x - dx, y + dy)]
    canvas.polygon(turned(corners, lean, middle), rgb)
    canvas.line(turned(corners, lean, middle), 2.5, shade(rgb, 0.6), closed=True)
    cell = width / columns, height / rows
    radius = min(cell) / 2 * float(rng.uniform(0.52, 0.66))
    kind, colour = what
    places: list[_Place] = []
    base = float(rng.choice([0, 90])) if kind == "connector" else 0.0
    for row in range(rows):
        for column in range(columns):
            centre = (
                x - dx + (column + 0.5) * cell[0] + float(rng.uniform(-1, 1)),
                y - dy + (row + 0.5) * cell[1] + float(rng.uniform(-1, 1)),
            )
            cx, cy = turned([centre], lean, middle)[0]
            twist = float(rng.uniform(0, 90)) if KINDS[kind].round else lean + base
            part = Part(kind=kind, colour=colour, centre_xy=(float(cx), float(cy)),
                        radius=radius, degrees=twist)  # fmt: skip
            _empty(canvas, part, rgb)
            places.append(_Place(name=_place_name(row, column, grid), part=part, owner=len(places)))
    return canvas, places


def _empty(canvas: Canvas, part: Part, plate: Rgb) -> None:
    """Where a part belongs: a printed outline and a hole."""
    mark = shade(plate, 0.55) if sum(plate) > 330 else shade(plate, 1.7)
    if part.kind in ("connector", "button"):
        half = 0.68 if part.kind == "connector" else 0.95
        long = 1.12 if part.kind == "connector" else 0.95
        outline = part.at((-long, -half), (long, -half), (long, half), (-long, half))
        canvas.line(outline, 1.5, mark, closed=True)
    else:
        canvas.circle(part.centre_xy, 1.14 * part.radius, mark, None, 1.5)
    canvas.circle(part.centre_xy, 0.36 * part.radius, (14, 14, 15))
    canvas.circle(part.centre_xy, 0.36 * part.radius, mark, None, 1.2)


def _misaligned(part: Part, rng: np.random.Generator) -> Part:
    """Moved well out of its outline; turned too where that shows."""
    angle, far = rng.uniform(0, 2 * np.pi), part.radius * rng.uniform(0.5, 0.7)
    x, y = part.centre_xy
    away = float(rng.choice([-1, 1]) * rng.uniform(20, 40))
    moved = float(x + far * np.cos(angle)), float(y + far * np.sin(angle))
    return replace(part, centre_xy=moved, degrees=part.degrees + away)


def _scratch(canvas: Canvas, part: Part, rng: np.random.Generator) -> None:
    """A jagged bright or dark line over the part; its pixels stay the part's."""
    rgb = PAINT[part.colour]
    ink = (16, 14, 14) if sum(rgb) > 330 else (250, 250, 248)
    along = np.linspace(-0.68, 0.68, 6)
    slope, offset = rng.uniform(0.25, 0.55) * rng.choice([-1, 1]), rng.uniform(-0.08, 0.08)
    across = slope * along + offset + rng.uniform(-0.07, 0.07, 6)
    across = np.clip(across, -0.45, 0.45)
    width = max(1.3, 0.07 * part.radius)
    canvas.line(part.at(*zip(along.tolist(), across.tolist(), strict=True)), width, ink)
    short = slice(1, 4)
    beside = part.at(*zip(along[short].tolist(), (across[short] + 0.16).tolist(), strict=True))
    canvas.line(beside, 0.7 * width, ink)


def _place_name(row: int, column: int, grid: tuple[int, int]) -> str:
    """``top left``, ``middle`` ... as one would say it in this grid."""
    rows, columns = grid
    down = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}[rows][row]
    across = {1: ("",), 2: ("left", "right"), 3: ("left", "middle", "right")}[columns][column]
    return f"{down} {across}".strip()


@dataclass(frozen=True, slots=True)
class _Told:
    """What is true of a plate."""

    kind: str
    colour: str
    odd: str
    state: State
    place: str
    places: int


_ASKED: dict[State, tuple[str, ...]] = {
    "good": ("Is everything in order?", "Are all the {many} in order?", "Is this plate good?"),
    "missing": ("Is a part missing?", "Is a {one} missing?", "Is one place empty?"),
    "colour": ("Does one {one} have a wrong colour?", "Is one of the {many} of another colour?"),
    "scratched": ("Is there a scratch?", "Is a {one} scratched?", "Is one of the parts scratched?"),
    "misaligned": ("Is a {one} misaligned?", "Is one of the parts out of place?"),
}
_WRONG: dict[State, tuple[str, ...]] = {
    "good": ("nothing", "nothing is wrong", "it is good", "no fault"),
    "missing": ("a {one} is missing", "a part is missing", "missing", "the {at} {one} is missing",
                "one {one} is missing", "a missing {one}"),
    "colour": ("a {one} has the wrong colour", "wrong colour", "one {one} is {odd}",
               "the {at} {one} is {odd}", "the {at} {one} has the wrong colour"),
    "scratched": ("a {one} is scratched", "a scratch", "scratched", "a scratched {one}",
                  "the {at} {one} is scratched", "there is a scratch"),
    "misaligned": ("a {one} is misaligned", "misaligned", "a {one} is out of place",
                   "the {at} {one} is misaligned", "a misaligned {one}"),
}  # fmt: skip
_WHICH: dict[State, str] = {
    "missing": "Which {one} is missing?",
    "colour": "Which {one} has another colour?",
    "scratched": "Which {one} is scratched?",
    "misaligned": "Which {one} is out of place?",
}
_UNKNOWABLE = (
    "What is the serial number of this plate?", "Who made these {many}?", "When was this made?",
    "How heavy is the {one}?", "What is on the back of the plate?", "What does a {one} cost?",
    "What is the name of the inspector?", "How old are the {many}?",
)  # fmt: skip


def _questions(
    told: _Told, things: Sequence[SeenThing], rng: np.random.Generator
) -> list[Question]:
    kind = KINDS[told.kind]

    def said(text: str) -> str:
        text = text.format(one=told.kind, many=kind.plural, at=told.place, odd=told.odd)
        return text.replace("a LED", "an LED")

    def one_of(texts: Sequence[str]) -> str:
        return said(texts[int(rng.integers(len(texts)))])

    found = [Question(kind="state", text=one_of(_ASKED[told.state]), answer="yes")]
    # As many "no" as "yes" to each of them: one other question for every true one.
    others = [state for state in _ASKED if state != told.state]
    other = others[int(rng.integers(len(others)))]
    found.append(Question(kind="state", text=one_of(_ASKED[other]), answer="no"))
    answer, *accepted = map(said, _WRONG[told.state])
    found.append(
        Question(kind="state", text="What is wrong here?", answer=answer, accepted=tuple(accepted))
    )
    if told.state != "good":
        text = said(_WHICH[told.state])
        place = told.place
        accepted = [place, said("the {at} {one}"), f"at the {place}", f"in the {place}"]
        found.append(Question(kind="state", text=text, answer=f"the {place} one",
                              accepted=tuple(accepted)))  # fmt: skip
    else:
        text = said(_WHICH[FAULTS[int(rng.integers(len(FAULTS)))]])
        found.append(Question(kind="state", text=text, answer="none",
                              accepted=("none of them", "no one", "nothing")))  # fmt: skip
    found.append(
        Question(kind="count", text=said("How many {many} are there?"), answer=str(len(things)))
    )
    empty = told.places - len(things)
    if rng.random() < (0.6 if empty else 0.2):
        found.append(
            Question(kind="count", text="How many places are empty?", answer=str(empty),
                     accepted=() if empty else ("none", "zero"))
        )  # fmt: skip
    found += _colour_questions(told, things, said)
    found.append(Question(kind="unanswerable", text=one_of(_UNKNOWABLE), answer="I cannot tell"))
    return found


def _colour_questions(
    told: _Told, things: Sequence[SeenThing], said: Callable[[str], str]
) -> list[Question]:
    """Only where the pixels have the colour that the paint is called by."""
    seen = {thing.colour for thing in things}
    if not seen <= {told.colour, told.odd}:
        return []
    if told.state == "colour":
        text, answer = said("What colour is the odd {one}?"), told.odd
    else:
        text, answer = said("What colour are the {many}?"), told.colour
    return [Question(kind="colour", text=text, answer=answer)]
