"""Clips of an inspection station: parts on a fixture, there, missing, wrong or out of place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.clips.camera import Camera
from benchmarks.clips.clip import Clip, Role
from benchmarks.clips.compositions import FPS, SEEDS, SIZE, told
from edgevlm.export.nano_data.backgrounds import noise_field
from edgevlm.export.nano_data.story import Story, Telling
from edgevlm.frame import UInt8

CHANGES = 70
_SCALE = 3  # drawn larger and made smaller, for soft edges
_FINE = "ABCDEFGHKLMNPRSTUVWXYZ0123456789"
STATES = ("present", "missing", "wrong", "misaligned", "scratched")


@dataclass(frozen=True, slots=True)
class Part:
    """One place on the fixture and what is there.

    Args:
        shape: screw, chip, connector, capacitor or label.
        centre_xy: pixels.
        size_wh: pixels.
        state: one of ``STATES``.
        variant: which wrong one, which way out of place, which code on the label.
    """

    shape: str
    centre_xy: tuple[int, int]
    size_wh: tuple[int, int]
    state: str = "present"
    variant: int = 0


Fixture = tuple[Part, ...]


def station(role: Role) -> Clip:
    """Parts of 12 to 90 pixels, changes of high and of low contrast."""
    rng = np.random.default_rng([SEEDS[role], 20])
    story = _story(rng, _fixture(rng))
    camera = Camera(seed=SEEDS[role], noise=2.5, flicker=0.012, flicker_hz=1.1, quality=20)
    return Clip(
        name=f"station-{role}",
        role=role,
        what="parts on a fixture: missing, wrong, out of place, scratched",
        fps=FPS,
        count=story.count,
        changes=story.changes,
        pictures=told(story),
        camera=camera,
    )


def _fixture(rng: np.random.Generator) -> Fixture:
    places = [("screw", (x, y), (18, 18)) for x in (110, 530) for y in (70, 180, 290)]
    places += [("chip", (x, 130), (54, 54)) for x in (220, 320)]
    places += [("connector", (420, 130), (90, 34)), ("label", (250, 250), (110, 36))]
    places += [("capacitor", (x, 250), (16, 26)) for x in (350, 390, 430, 470)]
    moved = ((s, (x + int(rng.integers(-6, 7)), y + int(rng.integers(-6, 7))), wh)
             for s, (x, y), wh in places)  # fmt: skip
    return tuple(Part(shape, centre, size) for shape, centre, size in moved)


def _story(rng: np.random.Generator, first: Fixture) -> Story[Fixture]:
    ground = _ground(rng)

    @lru_cache(maxsize=4)
    def paint(fixture: Fixture) -> UInt8:
        return _painted(ground, fixture)

    telling = Telling(paint, first, FPS, rng, gap_s=(1.2, 2.6), quiet_s=4.0)
    while telling.told < CHANGES:
        now = telling.now
        at = int(rng.integers(len(now)))
        part = now[at]
        # Back to present every other time, so that the fixture stays mostly right.
        wanted = "present" if part.state != "present" else str(rng.choice(STATES[1:]))
        changed = replace(part, state=wanted, variant=int(rng.integers(1 << 16)))
        kind = wanted if wanted != "present" else f"mended {part.state}"
        telling.change(kind, at, (*now[:at], changed, *now[at + 1 :]))
    return telling.end()


def _ground(rng: np.random.Generator) -> UInt8:
    width, height = SIZE
    picture = np.full((height, width, 3), (96, 100, 104), np.float32)
    picture += (10 * noise_field(SIZE, 90, rng) + 4 * noise_field(SIZE, 3, rng))[..., None]
    board = picture[40:320, 70:570]
    board[:] = np.array(rng.choice([[30, 86, 52], [36, 60, 110], [120, 40, 44]]), np.float32)
    board += (6 * noise_field((500, 280), 40, rng) + 3 * noise_field((500, 280), 4, rng))[..., None]
    for _ in range(26):  # conductors
        y, x = int(rng.integers(6, 274)), int(rng.integers(0, 380))
        board[y : y + 2, x : x + int(rng.integers(40, 120))] += 16
    return np.clip(picture, 0, 255).astype(np.uint8)


def _painted(ground: UInt8, fixture: Fixture) -> UInt8:
    picture = Image.fromarray(ground)
    for part in fixture:
        if part.state != "missing":
            sprite = _sprite(part)
            x, y = part.centre_xy
            if part.state == "misaligned":
                x, y = x + (part.variant % 3 - 1) * 5, y + (part.variant // 3 % 3 - 1) * 4
            picture.paste(sprite, (x - sprite.width // 2, y - sprite.height // 2), sprite)
    return np.asarray(picture)


def _sprite(part: Part) -> Image.Image:
    """A part with alpha, turned if it is out of place."""
    w, h = (side * _SCALE for side in part.size_wh)
    room = _SCALE * 8
    image = Image.new("RGBA", (w + 2 * room, h + 2 * room))
    pen = ImageDraw.Draw(image)
    box = (room, room, room + w, room + h)
    wrong = part.state == "wrong"
    if part.shape == "screw":
        pen.ellipse(box, fill=(182, 150, 70) if wrong else (176, 178, 182))
        middle = room + h // 2
        pen.rectangle((room + 6, middle - 4, room + w - 6, middle + 4), fill=(74, 74, 76))
    elif part.shape == "chip":
        for n in range(6):
            y = room + (2 * n + 1) * h // 13
            pen.rectangle((room - 9, y, room + w + 9, y + h // 14), fill=(190, 190, 186))
        pen.rectangle(box, fill=(64, 62, 70) if wrong else (28, 28, 30))
        pen.ellipse((room + 12, room + 12, room + 27, room + 27), fill=(92, 92, 92))
    elif part.shape == "connector":
        pen.rectangle(box, fill=(206, 186, 150) if wrong else (226, 226, 220))
        for n in range(7):
            x = room + (2 * n + 1) * w // 14
            pen.rectangle((x - 6, room + h // 3, x + 6, room + 2 * h // 3), fill=(120, 104, 48))
    elif part.shape == "capacitor":
        pen.rounded_rectangle(box, 8, fill=(168, 120, 64) if wrong else (196, 158, 84))
        pen.rectangle((room, room, room + w, room + h // 5), fill=(96, 72, 40))
    else:
        pen.rectangle(box, fill=(232, 232, 226))
        code = (
            [_FINE[(part.variant >> (n * 3)) % len(_FINE)] for n in range(5)] if wrong else "K7M2A"
        )
        pen.text((room + 20, room + 22), "".join(code), fill=(20, 20, 20), font_size=66)
    if part.state == "scratched":
        _scratch(pen, box, part.variant)
    if part.state == "misaligned":
        angle = (6 + part.variant % 9) * (1 if part.variant & 1 else -1)
        image = image.rotate(angle, Image.Resampling.BICUBIC)
    small = image.resize((image.width // _SCALE, image.height // _SCALE), Image.Resampling.BOX)
    return small.filter(ImageFilter.GaussianBlur(0.5))


def _scratch(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], variant: int) -> None:
    rng = np.random.default_rng(variant)
    x0, y0, x1, y1 = box
    points = [
        (int(x), int(y))
        for x, y in zip(
            np.sort(rng.integers(x0, x1, 4)), rng.integers(y0 + 4, y1 - 4, 4), strict=True
        )
    ]
    tone = int(rng.choice([60, 130, 210]))
    pen.line(points, fill=(tone, tone, tone), width=2 * _SCALE)
