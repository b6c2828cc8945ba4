"""Round gauges with a needle, a scale, numbers and often a red zone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.nano_data.backgrounds import drawn_ground
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.canvas import Canvas, Rgb, seen_thing
from edgevlm.export.nano_data.lettering import write
from edgevlm.export.nano_data.parts import shade
from edgevlm.export.nano_data.picture import Picture, Question

TICKS = 10  # steps of the scale, each of 1 or of 10
_SWEEP = 270.0  # degrees from the first to the last tick, clockwise from the lower left
_UNITS = ("bar", "psi", "V", "A", "°C", "%", "km/h", "kPa", "rpm")
_RED: Rgb = (205, 30, 30)
_NUMBER = ("What does the gauge show?", "What is the reading of the gauge?",
           "What number does the needle point to?", "Read the gauge.")  # fmt: skip
_ZONE = ("Is the needle in the red?", "Is the needle in the red zone?", "Does the gauge show red?")
_UNKNOWABLE = (
    "What does the second gauge show?", "What did the gauge show yesterday?",
    "Who made this gauge?", "When was the gauge checked?", "What does the gauge cost?",
    "What is on the back of the gauge?", "How old is the gauge?", "Who read this gauge?",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Face:
    centre_xy: tuple[float, float]
    radius: float
    lean: float
    paper: Rgb
    ink: Rgb

    def at(self, tick: float, radii: float) -> tuple[float, float]:
        """A point of the scale, in pixels."""
        angle = np.deg2rad(135 + self.lean + _SWEEP * tick / TICKS)
        x, y = self.centre_xy
        far = radii * self.radius
        return float(x + far * np.cos(angle)), float(y + far * np.sin(angle))


def gauge(rng: np.random.Generator, side: int = 224) -> Picture:
    """One gauge, with questions about its reading, read to the nearest tick.

    Args:
        rng: chooses everything.
        side: of the square picture, pixels, at least 224.
    """
    step = int(rng.choice([1, 10]))
    zone = _zone(rng)
    red = bool(rng.random() < 0.5)
    tick = _tick(rng, zone, red)
    radius = side * float(rng.uniform(0.34, 0.46))
    middle = rng.uniform(radius + 3, side - radius - 3, 2)
    dark = rng.random() < 0.3
    paper = (38, 40, 44) if dark else shade((246, 244, 236), float(rng.uniform(0.88, 1.0)))
    face = _Face(
        centre_xy=(float(middle[0]), float(middle[1])),
        radius=radius,
        lean=float(rng.uniform(-4, 4)),
        paper=paper,
        ink=(235, 235, 232) if dark else (28, 28, 32),
    )
    canvas = Canvas(drawn_ground(side, rng))
    unit = str(rng.choice(_UNITS)) if rng.random() < 0.6 else None
    _scale(canvas, face, step, zone, unit, rng)
    # Never so far from the tick that the next one would be as near.
    _needle(canvas, face, tick + float(rng.uniform(-0.2, 0.2)), rng)
    image, owners = canvas.finish()
    seen = seen_thing(image, owners, 0, "gauge", "instruments")
    questions = _questions(tick * step, unit, None if zone is None else red, rng)
    return Picture(
        image_rgb=photographed(image, rng),
        family="gauges",
        scene=f"gauge {'dark' if dark else 'light'} {step} at {tick}",
        things=() if seen is None else (seen,),
        questions=tuple(questions),
    )


def _zone(rng: np.random.Generator) -> tuple[int, int] | None:
    """The ticks between which the scale is red."""
    chance, width = rng.random(), int(rng.integers(3, 6))
    if chance < 0.3:
        return None
    return (0, width) if chance < 0.55 else (TICKS - width, TICKS)


def _tick(rng: np.random.Generator, zone: tuple[int, int] | None, red: bool) -> int:
    """A tick inside or outside of the red zone, never at its end."""
    if zone is None:
        return int(rng.integers(0, TICKS + 1))
    low, high = zone
    end = high if low == 0 else low
    ticks = [t for t in range(TICKS + 1) if t != end and (low <= t <= high) == red]
    return ticks[int(rng.integers(len(ticks)))]


def _scale(
    canvas: Canvas,
    face: _Face,
    step: int,
    zone: tuple[int, int] | None,
    unit: str | None,
    rng: np.random.Generator,
) -> None:
    rim = shade((150, 152, 156), float(rng.uniform(0.3, 1.1)))
    canvas.circle(face.centre_xy, face.radius, rim, 0)
    canvas.circle(face.centre_xy, 0.93 * face.radius, face.paper, 0)
    if zone is not None:
        arc = [face.at(t, 0.84) for t in np.linspace(*zone, 24)]
        canvas.line(arc, 0.1 * face.radius, _RED, 0)
    if rng.random() < 0.7:  # half steps
        for tick in range(TICKS):
            ends = face.at(tick + 0.5, 0.83), face.at(tick + 0.5, 0.89)
            canvas.line(ends, 0.015 * face.radius, face.ink, 0)
    every = 1 if rng.random() < 0.6 else 2
    letters = str(rng.choice(["DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif"]))
    size = face.radius * (0.2 if step == 1 else 0.17)
    for tick in range(TICKS + 1):
        canvas.line((face.at(tick, 0.76), face.at(tick, 0.89)), 0.035 * face.radius, face.ink, 0)
        if tick % every == 0:
            write(canvas, str(tick * step), letters, size, face.at(tick, 0.6), face.ink, 0)
    if unit is not None:
        x, y = face.centre_xy
        below = x, y + 0.5 * face.radius
        write(canvas, unit, letters, 0.19 * face.radius, below, face.ink, 0)


def _needle(canvas: Canvas, face: _Face, tick: float, rng: np.random.Generator) -> None:
    colours: list[Rgb] = [
        face.ink,
        _RED,
        (30, 70, 190) if sum(face.paper) > 330 else (240, 150, 40),
    ]
    rgb = colours[int(rng.integers(len(colours)))]
    tip = np.array(face.at(tick, float(rng.uniform(0.7, 0.82))))
    middle = np.array(face.centre_xy)
    along = (tip - middle) / np.linalg.norm(tip - middle)
    across = np.array([-along[1], along[0]]) * face.radius * float(rng.uniform(0.03, 0.055))
    tail = middle - along * face.radius * 0.18
    points = np.array([tip, middle + across, tail + across, tail - across, middle - across])
    canvas.polygon(points, rgb, 0)
    canvas.circle(face.centre_xy, 0.09 * face.radius, shade(rgb, 0.7), 0)


def _questions(
    reading: int, unit: str | None, red: bool | None, rng: np.random.Generator
) -> list[Question]:
    def one_of(texts: tuple[str, ...]) -> str:
        return texts[int(rng.integers(len(texts)))]

    with_unit = () if unit is None else (f"{reading} {unit}", f"{reading}{unit}")
    found = [Question(kind="number", text=one_of(_NUMBER), answer=str(reading), accepted=with_unit)]
    if red is not None:
        found.append(Question(kind="state", text=one_of(_ZONE), answer="yes" if red else "no"))
    if unit is not None:
        found.append(Question(kind="text", text="What unit is on the gauge?", answer=unit))
    else:
        found.append(Question(kind="unanswerable", text="What unit does the gauge have?",
                              answer="I cannot tell"))  # fmt: skip
    found.append(Question(kind="unanswerable", text=one_of(_UNKNOWABLE), answer="I cannot tell"))
    return found
