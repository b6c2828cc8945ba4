"""Clips of a control panel: gauges, a number display, lamps, a switch, a level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.clips.camera import Camera
from benchmarks.clips.clip import Clip, Role
from benchmarks.clips.compositions import FPS, SEEDS, SIZE, told
from edgevlm.export.nano_data.backgrounds import noise_field
from edgevlm.export.nano_data.story import Story, Telling
from edgevlm.frame import UInt8

CHANGES = 70
_SCALE = 3
_GAUGES = (((120, 120), 78), ((280, 90), 44))  # centre and radius in pixels
_LAMPS = tuple((370 + 52 * n, 70) for n in range(5))
_GREEN, _RED, _DARK = (70, 220, 90), (230, 60, 50), (58, 66, 60)
# Segments of a digit: a top, b upper right, c lower right, d bottom, e, f left, g middle.
_SEGMENTS = (
    "abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that a panel shows.

    Args:
        needles: of each gauge, 0 to 1.
        number: 0 to 9999.
        lamps: 0 dark, 1 green, 2 red.
        level: 0 to 1.
        switch_on: its lever points up.
    """

    needles: tuple[float, ...]
    number: int
    lamps: tuple[int, ...]
    level: float
    switch_on: bool


def panel(role: Role) -> Clip:
    """Needles that move within half a second; the rest changes at once."""
    rng = np.random.default_rng([SEEDS[role], 21])
    story = _story(rng)
    camera = Camera(
        seed=SEEDS[role], noise=3.0, flicker=0.01, flicker_hz=0.4, drift=0.1, drift_s=40,
        codec="mjpeg", quality=5,
    )  # fmt: skip
    return Clip(
        name=f"panel-{role}",
        role=role,
        what="gauges, a number, lamps, a level and a switch",
        fps=FPS,
        count=story.count,
        changes=story.changes,
        pictures=told(story),
        camera=camera,
    )


def _story(rng: np.random.Generator) -> Story[Panel]:
    ground = _ground(rng)

    @lru_cache(maxsize=4)
    def paint(shown: Panel) -> UInt8:
        return _painted(ground, shown)

    first = Panel((0.3, 0.6), int(rng.integers(1000, 9000)), (1, 0, 0, 1, 0), 0.5, True)
    telling = Telling(paint, first, FPS, rng, gap_s=(1.2, 2.6), quiet_s=4.0)
    while telling.told < CHANGES:
        now = telling.now
        what = str(rng.choice(["gauge", "display", "lamp", "level", "switch"], p=_OFTEN))
        if what == "gauge":
            at = int(rng.integers(len(now.needles)))
            old, new = now.needles[at], float(rng.uniform(0, 1))
            if abs(new - old) < 0.06:  # nobody reads a gauge more finely
                continue
            way = [old + (new - old) * n / 5 for n in range(1, 5)]
            steps = [replace(now, needles=_with(now.needles, at, v)) for v in (*way, new)]
            telling.change(what, (what, at), steps[-1], steps[:-1])
        elif what == "display":
            step = int(rng.choice([1, 1, 7, 10, 130, 1000]))
            number = (now.number + step) % 10000
            telling.change(what, what, replace(now, number=number))
        elif what == "lamp":
            at = int(rng.integers(len(now.lamps)))
            lamp = (now.lamps[at] + int(rng.integers(1, 3))) % 3
            lamps = (*now.lamps[:at], lamp, *now.lamps[at + 1 :])
            telling.change(what, (what, at), replace(now, lamps=lamps))
        elif what == "level":
            telling.change(what, what, replace(now, level=float(rng.uniform(0, 1))))
        else:
            telling.change(what, what, replace(now, switch_on=not now.switch_on))
    return telling.end()


_OFTEN = [0.3, 0.25, 0.2, 0.15, 0.1]


def _with(values: tuple[float, ...], at: int, value: float) -> tuple[float, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _ground(rng: np.random.Generator) -> UInt8:
    width, height = SIZE
    tint = rng.uniform(90, 150, 3).astype(np.float32)
    picture = np.full((height, width, 3), tint, np.float32)
    picture += (8 * noise_field(SIZE, 120, rng) + 2 * noise_field(SIZE, 3, rng))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _painted(ground: UInt8, shown: Panel) -> UInt8:
    size = SIZE[0] * _SCALE, SIZE[1] * _SCALE
    image = Image.new("RGBA", size)
    pen = ImageDraw.Draw(image)
    for (centre, radius), value in zip(_GAUGES, shown.needles, strict=True):
        _gauge(pen, centre, radius, value)
    for centre, state in zip(_LAMPS, shown.lamps, strict=True):
        _disc(pen, centre, 13, (30, 30, 30))
        _disc(pen, centre, 10, (_DARK, _GREEN, _RED)[state])
    pen.rectangle(_scaled(380, 150, 560, 220), fill=(22, 26, 24))
    for n, digit in enumerate(f"{shown.number:04d}"):
        _digit(pen, (392 + 42 * n, 160), int(digit))
    pen.rectangle(_scaled(60, 250, 90, 340), fill=(232, 232, 226))
    pen.rectangle(_scaled(63, round(337 - 84 * shown.level), 87, 337), fill=(60, 110, 190))
    pen.rectangle(_scaled(180, 260, 220, 330), fill=(34, 34, 36))
    top = 264 if shown.switch_on else 298
    pen.rectangle(_scaled(186, top, 214, top + 28), fill=(150, 152, 156))
    small = image.resize(SIZE, Image.Resampling.BOX)
    picture = Image.fromarray(ground)
    picture.paste(small, (0, 0), small)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.5)))


def _scaled(*values: float) -> tuple[int, ...]:
    return tuple(round(v * _SCALE) for v in values)


def _disc(
    pen: ImageDraw.ImageDraw, centre: tuple[int, int], radius: int, fill: tuple[int, int, int]
) -> None:
    x, y = centre
    pen.ellipse(_scaled(x - radius, y - radius, x + radius, y + radius), fill=fill)


def _gauge(pen: ImageDraw.ImageDraw, centre: tuple[int, int], radius: int, value: float) -> None:
    _disc(pen, centre, radius, (36, 36, 40))
    _disc(pen, centre, radius - 4, (236, 234, 226))
    x, y = centre
    for n in range(11):
        a = pi * (1.25 - 1.5 * n / 10)
        near, far = 0.74 * radius, 0.86 * radius
        pen.line(
            _scaled(x + near * cos(a), y - near * sin(a), x + far * cos(a), y - far * sin(a)),
            fill=(40, 40, 40),
            width=2 * _SCALE,
        )
    a = pi * (1.25 - 1.5 * value)
    tip = _scaled(x, y, x + 0.7 * radius * cos(a), y - 0.7 * radius * sin(a))
    pen.line(tip, fill=(190, 40, 36), width=3 * _SCALE)
    _disc(pen, centre, 5, (60, 60, 60))


def _digit(pen: ImageDraw.ImageDraw, corner: tuple[int, int], digit: int) -> None:
    x, y = corner
    w, h, t = 28, 50, 5
    boxes = {
        "a": (x + t, y, x + w - t, y + t),
        "b": (x + w - t, y + t, x + w, y + h // 2),
        "c": (x + w - t, y + h // 2, x + w, y + h - t),
        "d": (x + t, y + h - t, x + w - t, y + h),
        "e": (x, y + h // 2, x + t, y + h - t),
        "f": (x, y + t, x + t, y + h // 2),
        "g": (x + t, y + h // 2 - 2, x + w - t, y + h // 2 + 3),
    }
    for name, box in boxes.items():
        pen.rectangle(_scaled(*box), fill=_RED if name in _SEGMENTS[digit] else (46, 34, 32))
