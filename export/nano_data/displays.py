"""Displays of one to three large digits of seven segments, lit, of liquid crystal, or off."""

from __future__ import annotations

import numpy as np

from edgevlm.colour import colour_name
from edgevlm.export.nano_data.backgrounds import drawn_ground
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.canvas import Canvas, Rgb, seen_thing, turned
from edgevlm.export.nano_data.parts import shade
from edgevlm.export.nano_data.picture import Picture, Question

# Segments a to g of each digit, as data sheets letter them.
SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
_ENDS = {  # in widths and heights of a digit
    "a": ((0, 0), (1, 0)), "b": ((1, 0), (1, 0.5)), "c": ((1, 0.5), (1, 1)), "d": ((0, 1), (1, 1)),
    "e": ((0, 0.5), (0, 1)), "f": ((0, 0), (0, 0.5)), "g": ((0, 0.5), (1, 0.5)),
}  # fmt: skip
_LIT: dict[str, Rgb] = {
    "red": (255, 45, 35), "green": (50, 255, 90), "orange": (255, 150, 25), "blue": (70, 120, 255),
    "white": (250, 250, 250), "yellow": (255, 235, 60),
}  # fmt: skip
_OFF = 0.08  # share of pictures in which the display shows nothing
_NUMBER = ("What number is shown?", "What number is on the display?", "Read the display.",
           "What does the display show?", "Which number can you see?")  # fmt: skip
_UNKNOWABLE = (
    "What unit does the display have?", "What does the second display show?",
    "What was shown before?", "Who made this display?", "What does the display cost?",
    "What will the display show next?", "What is on the back of the display?",
)  # fmt: skip


def display(rng: np.random.Generator, side: int = 224) -> Picture:
    """One display, with questions about its number.

    Args:
        rng: chooses everything.
        side: of the square picture, pixels, at least 224.
    """
    digits = int(rng.integers(1, 4))
    number = int(rng.integers(0 if digits == 1 else 10 ** (digits - 1), 10**digits))
    on = bool(rng.random() >= _OFF)
    crystal = bool(rng.random() < 0.25)
    colour = "black" if crystal else str(rng.choice(list(_LIT)))
    canvas = Canvas(drawn_ground(side, rng))
    _draw(canvas, str(number), on, None if crystal else _LIT[colour], side, rng)
    image, owners = canvas.finish()
    seen = seen_thing(image, np.minimum(owners, 0), 0, "display", "instruments")
    lit = owners == 1
    if not on or crystal or colour_name(image, lit) != colour:
        colour = ""
    return Picture(
        image_rgb=photographed(image, rng),
        family="gauges",
        scene=f"display {number}" if on else "display off",
        things=() if seen is None else (seen,),
        questions=tuple(_questions(str(number) if on else None, colour, rng)),
    )


def _draw(
    canvas: Canvas,
    number: str,
    on: bool,
    light: Rgb | None,
    side: int,
    rng: np.random.Generator,
) -> None:
    """The case belongs to 0, segments that are on to 1; without ``light`` they are dark on grey."""
    count = len(number)
    height = side * float(rng.uniform(0.34, 0.5) if count < 3 else rng.uniform(0.28, 0.36))
    width = height * float(rng.uniform(0.48, 0.58))
    pitch = width * float(rng.uniform(1.5, 1.65))
    whole = pitch * (count - 1) + width
    lean = float(rng.uniform(-5, 5))
    slant = float(rng.choice([0, 0.12]))
    edge = height * float(rng.uniform(0.25, 0.4))
    reach = whole / 2 + edge + 2, height / 2 + edge + 2
    x, y = (
        float(rng.uniform(r + 4, side - r - 4)) if 2 * r + 8 < side else side / 2 for r in reach
    )
    glass: Rgb = (
        (18, 18, 20) if light is not None else shade((166, 178, 150), rng.uniform(0.9, 1.05))
    )
    case = shade((int(rng.integers(30, 220)),) * 3, 1.0)
    for grow, rgb in ((1.0, case), (0.78, glass)):
        dx, dy = whole / 2 + edge * grow, height / 2 + edge * grow
        corners = [(x - dx, y - dy), (x + dx, y - dy), (x + dx, y + dy), (x - dx, y + dy)]
        canvas.polygon(turned(corners, lean, (x, y)), rgb, 0)
    ink: Rgb = (30, 34, 30) if light is None else light
    faint = shade(glass, 0.93) if light is None else shade(ink, 0.14)
    thick, gap = height * float(rng.uniform(0.1, 0.13)), 0.07
    strokes = []
    for place, digit in enumerate(number):
        for segment, (begin, end) in _ENDS.items():
            points = []
            for at, toward in ((begin, end), (end, begin)):
                u, v = (a + gap * (b - a) for a, b in zip(at, toward, strict=True))
                px = x - whole / 2 + place * pitch + u * width + slant * height * (0.5 - v)
                points.append((px, y - height / 2 + v * height))
            shines = on and segment in SEGMENTS[int(digit)]
            strokes.append((shines, turned(points, lean, (x, y))))
    for shines, ends in sorted(strokes, key=lambda stroke: stroke[0]):  # those that shine in front
        canvas.line(ends, thick, ink if shines else faint, int(shines))


def _questions(number: str | None, colour: str, rng: np.random.Generator) -> list[Question]:
    def one_of(texts: tuple[str, ...]) -> str:
        return texts[int(rng.integers(len(texts)))]

    found = []
    if number is None:
        found.append(Question(kind="number", text=one_of(_NUMBER), answer="none",
                              accepted=("nothing", "no number", "it is off")))  # fmt: skip
        found.append(Question(kind="state", text="Is the display on?", answer="no"))
    else:
        found.append(Question(kind="number", text=one_of(_NUMBER), answer=number))
        if rng.random() < _OFF / (1 - _OFF):  # as often as "no"
            found.append(Question(kind="state", text="Is the display on?", answer="yes"))
        count = Question(kind="count", text="How many digits are shown?", answer=str(len(number)))
        found.append(count)
    if colour:
        found.append(Question(kind="colour", text="What colour are the digits?", answer=colour))
    found.append(Question(kind="unanswerable", text=one_of(_UNKNOWABLE), answer="I cannot tell"))
    return found
