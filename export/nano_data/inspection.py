"""Plates with a few equal parts, of which one may be missing, odd, scratched or out of place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgevlm.export.nano_data.backgrounds import drawn_ground
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.canvas import Canvas, Rgb, seen_thing, turned
from edgevlm.export.nano_data.inspection_questions import STATES, Inspected, questions_about
from edgevlm.export.nano_data.parts import KINDS, PAINT, Part, draw_part, shade
from edgevlm.export.nano_data.picture import Picture

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
    seen = [seen_thing(image, owners, p.owner, kind.lower(), "parts") for p in places]
    told = Inspected(kind, colour, odd, state, places[which].name, len(places))
    return Picture(
        image_rgb=photographed(image, rng),
        family="inspection",
        scene=f"{rows}x{columns} {kind} on {plate}",
        things=tuple(thing for thing in seen if thing is not None),
        questions=tuple(questions_about(told, [t for t in seen if t is not None], rng)),
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
    ground = drawn_ground(side, rng)
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
