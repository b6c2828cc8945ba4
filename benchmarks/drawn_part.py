"""A drawn part on a fixed camera: plate, two holes, a screw, a label; noise and light differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

UInt8 = NDArray[np.uint8]
HEIGHT, WIDTH = 240, 320
SCREW = (225, 150, 265, 190)


def part(seed: int, *, screw: bool = True, scratch: bool = False) -> UInt8:
    """A picture of the part, uint8 RGB ``(HEIGHT, WIDTH, 3)``."""
    rng = np.random.default_rng(seed)
    drawn = Image.new("RGB", (WIDTH, HEIGHT), (96, 102, 108))
    pen = ImageDraw.Draw(drawn)
    pen.rounded_rectangle(
        (40, 40, 280, 205), 14, fill=(168, 172, 176), outline=(60, 60, 60), width=3
    )
    for x in (75, 150):
        pen.ellipse((x, 70, x + 34, 104), fill=(40, 42, 44), outline=(90, 90, 90), width=3)
    pen.rectangle((70, 140, 180, 180), fill=(225, 205, 80))
    for row in range(3):
        pen.line((78, 150 + 10 * row, 168 - 20 * row, 150 + 10 * row), fill=(30, 30, 30), width=3)
    if screw:
        pen.ellipse(SCREW, fill=(205, 205, 210), outline=(50, 50, 50), width=3)
        left, top, right, bottom = SCREW
        middle = (top + bottom) // 2
        pen.line((left + 8, middle, right - 8, middle), fill=(50, 50, 50), width=5)
    if scratch:
        pen.line((60, 115, 130, 132), fill=(245, 245, 245), width=3)
    light = 1 + rng.uniform(-0.04, 0.04)
    noisy = np.asarray(drawn, np.float32) * light + rng.normal(0, 2.5, (HEIGHT, WIDTH, 3))
    found: UInt8 = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return found
