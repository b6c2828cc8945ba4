"""Small parts seen from above, as they sit on a plate under inspection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.nano_data.canvas import Canvas, Rgb, turned

PAINT: dict[str, Rgb] = {
    "red": (205, 35, 35), "orange": (240, 135, 25), "yellow": (240, 215, 45),
    "green": (35, 155, 60), "blue": (35, 85, 205), "purple": (135, 55, 200),
    "pink": (240, 110, 180), "black": (32, 32, 34), "white": (238, 238, 236),
    "grey": (158, 160, 163), "brown": (120, 72, 32),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part where it sits.

    Args:
        kind: ``screw`` ...
        colour: a key of ``PAINT``.
        centre_xy: in pixels.
        radius: of the circle around it, pixels.
        degrees: turned clockwise.
    """

    kind: str
    colour: str
    centre_xy: tuple[float, float]
    radius: float
    degrees: float

    def at(self, *points: tuple[float, float]) -> NDArray[np.float64]:
        """Points given in radii from its centre, in pixels of the picture."""
        moved = np.array(points) * self.radius + np.array(self.centre_xy)
        return turned(moved, self.degrees, self.centre_xy)


def draw_part(canvas: Canvas, part: Part, owner: int | None) -> None:
    """Draw it; its pixels belong to ``owner``."""
    KINDS[part.kind].draw(canvas, part, owner)


def shade(rgb: Rgb, factor: float) -> Rgb:
    """Darker below 1, lighter above."""
    if factor <= 1:
        r, g, b = (round(v * factor) for v in rgb)
    else:
        r, g, b = (round(255 - (255 - v) / factor) for v in rgb)
    return r, g, b


def _regular(count: int, inner: float = 1.0, twist: float = 0.0) -> list[tuple[float, float]]:
    """Corners on a circle; with ``inner`` every second lies nearer to the middle."""
    angles = 2 * np.pi * np.arange(count) / count + twist
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    return [
        (float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(angles, radii, strict=True)
    ]


def _screw(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb = PAINT[part.colour]
    canvas.circle(part.centre_xy, part.radius, shade(rgb, 0.75), owner)
    canvas.circle(part.centre_xy, 0.86 * part.radius, rgb, owner)
    slot = shade(rgb, 0.35) if part.colour != "black" else shade(rgb, 1.5)
    width = 0.22 * part.radius
    canvas.line(part.at((-0.55, 0), (0.55, 0)), width, slot, owner)
    canvas.line(part.at((0, -0.55), (0, 0.55)), width, slot, owner)


def _washer(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb, r = PAINT[part.colour], part.radius
    canvas.circle(part.centre_xy, 0.74 * r, shade(rgb, 0.7), owner, 0.52 * r)
    canvas.circle(part.centre_xy, 0.74 * r, rgb, owner, 0.36 * r)


def _cap(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb = PAINT[part.colour]
    canvas.polygon(part.at(*_regular(44, 0.9)), shade(rgb, 0.8), owner)
    canvas.circle(part.centre_xy, 0.78 * part.radius, rgb, owner)
    canvas.circle(part.centre_xy, 0.62 * part.radius, shade(rgb, 1.12), owner, 0.06 * part.radius)


def _led(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb, r = PAINT[part.colour], part.radius
    canvas.circle(part.centre_xy, r, shade(rgb, 0.72), owner)
    canvas.circle(part.centre_xy, 0.8 * r, rgb, owner)
    glint = part.at((-0.25, -0.3))[0]
    canvas.circle((float(glint[0]), float(glint[1])), 0.22 * r, shade(rgb, 3), owner)


def _connector(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb = PAINT[part.colour]
    body = part.at((-1, -0.55), (1, -0.55), (1, 0.55), (-1, 0.55))
    canvas.polygon(body, rgb, owner)
    canvas.line(body, 0.1 * part.radius, shade(rgb, 0.6), owner, closed=True)
    for x in (-0.66, -0.22, 0.22, 0.66):
        pin = part.at(
            *((x + u, v) for u, v in ((-0.1, -0.2), (0.1, -0.2), (0.1, 0.2), (-0.1, 0.2)))
        )
        canvas.polygon(pin, (228, 196, 90) if part.colour != "yellow" else (70, 70, 75), owner)


def _gear(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb, teeth = PAINT[part.colour], 10
    outline = []
    for tooth in range(teeth):
        for share, r in ((0.0, 0.76), (0.25, 0.76), (0.35, 1.0), (0.65, 1.0), (0.75, 0.76)):
            angle = 2 * np.pi * (tooth + share) / teeth
            outline.append((float(r * np.cos(angle)), float(r * np.sin(angle))))
    canvas.polygon(part.at(*outline), rgb, owner)
    canvas.circle(part.centre_xy, 0.52 * part.radius, shade(rgb, 0.75), owner, 0.08 * part.radius)
    canvas.circle(part.centre_xy, 0.2 * part.radius, (25, 25, 27), owner)


def _button(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb, r = PAINT[part.colour], part.radius
    side = 0.72
    corners = part.at((-side, -side), (side, -side), (side, side), (-side, side))
    canvas.polygon(corners, shade(rgb, 0.7), owner)
    canvas.line(corners, 0.2 * r, shade(rgb, 0.7), owner, closed=True)
    inner = part.at((-0.62, -0.62), (0.62, -0.62), (0.62, 0.62), (-0.62, 0.62))
    canvas.polygon(inner, rgb, owner)


def _nut(canvas: Canvas, part: Part, owner: int | None) -> None:
    rgb = PAINT[part.colour]
    canvas.polygon(part.at(*_regular(6)), rgb, owner)
    canvas.line(part.at(*_regular(6)), 0.1 * part.radius, shade(rgb, 0.65), owner, closed=True)
    canvas.circle(part.centre_xy, 0.45 * part.radius, (25, 25, 27), owner)
    canvas.circle(part.centre_xy, 0.45 * part.radius, shade(rgb, 0.6), owner, 0.1 * part.radius)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of part looks.

    Args:
        draw: onto a canvas.
        colours: that it comes in.
        plural: of its name.
        round: whether one does not see that it is turned.
    """

    draw: Callable[[Canvas, Part, int | None], None]
    colours: tuple[str, ...]
    plural: str
    round: bool


_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
_METAL = ("grey", "black", "yellow", "red", "blue")
# Names that mean nothing else: a nut may be eaten, and a cap worn.
KINDS: dict[str, Kind] = {
    "screw": Kind(_screw, _METAL, "screws", True),
    "washer": Kind(_washer, _METAL, "washers", True),
    "hex nut": Kind(_nut, _METAL, "hex nuts", False),
    "bottle cap": Kind(_cap, _BRIGHT, "bottle caps", True),
    "LED": Kind(_led, ("red", "green", "blue", "yellow", "white", "orange"), "LEDs", True),
    "connector": Kind(_connector, ("white", "black", "blue", "green", "red"), "connectors", False),
    "gear": Kind(_gear, ("grey", "black", "white", "blue", "orange", "red"), "gears", True),
    "button": Kind(_button, _BRIGHT, "buttons", False),
}
