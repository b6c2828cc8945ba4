"""Training and evaluation scenes of cut-outs: what stands where, before which background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from edgevlm.colour import COLOURS
from edgevlm.errors import ExportError
from edgevlm.export.nano_data.backgrounds import table_scene, textured
from edgevlm.export.nano_data.composition import CutOut, Placement, compose
from edgevlm.export.nano_data.layout import free_place
from edgevlm.export.nano_data.picture import Picture, of_composition
from edgevlm.frame import UInt8

BACKGROUNDS = Path("/usr/share/backgrounds/mate/nature")
BACKGROUNDS_PACKAGE = "mate-backgrounds"
_PLAIN = ("Aqua", "Blinds", "Dune", "GreenMeadow", "RainDrops", "Storm", "Wood")  # no thing in them
MOST = 5
_DRAWN = 128  # backgrounds that are drawn once and cut anew


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneMaker:
    """Composes scenes.

    Args:
        cut_outs: what may stand there, as groups that are chosen with equal chance.
        backgrounds: photographs, uint8 RGB each, larger than ``side``.
        side: of the square picture.
    """

    cut_outs: Sequence[Sequence[CutOut]]
    backgrounds: Sequence[UInt8]
    side: int = 224

    def scene(self, rng: np.random.Generator) -> Picture:
        """One scene: one to ``MOST`` things, of which some may be of one kind."""
        side, kinds = self.side, self._kinds(rng)
        room = {1: (0.35, 0.9), 2: (0.28, 0.48), 3: (0.24, 0.4), 4: (0.22, 0.34)}
        low, high = room.get(len(kinds), (0.2, 0.3))
        placed: tuple[Placement, ...] = ()
        for cut_out in kinds:
            size = side * float(np.exp(rng.uniform(np.log(low), np.log(high))))
            new = Placement(
                stamp=cut_out,
                centre_xy=(0, 0),
                side=round(size),
                degrees=float(rng.choice([0, rng.uniform(-25, 25)])),
                mirrored=bool(rng.random() < 0.5),
                hue=0.0
                if named_by_colour(cut_out)
                else float(rng.choice([0, 0, rng.uniform(0, 360)])),
            )
            found = free_place(new, placed, (side, side), rng, gap_px=2)
            placed += () if found is None else (found,)
        composed = compose(self._background(rng), placed)
        picture = of_composition(composed, scene="+".join(sorted({p.stamp.name for p in placed})))
        return Picture(
            image_rgb=as_taken(picture.image_rgb, rng),
            family=picture.family,
            scene=picture.scene,
            things=picture.things,
        )

    def _kinds(self, rng: np.random.Generator) -> list[CutOut]:
        count = int(rng.choice(MOST, p=[0.28, 0.22, 0.2, 0.2, 0.1])) + 1
        first = self._one(rng)
        if count > 1 and rng.random() < 0.45:  # several of one kind, perhaps with others
            same = int(rng.integers(2, count + 1))
            return [first] * same + [self._one(rng) for _ in range(count - same)]
        return [first] + [self._one(rng) for _ in range(count - 1)]

    def _one(self, rng: np.random.Generator) -> CutOut:
        group = self.cut_outs[int(rng.integers(len(self.cut_outs)))]
        return group[int(rng.integers(len(group)))]

    def _background(self, rng: np.random.Generator) -> UInt8:
        side = self.side
        chance = rng.random()
        if self.backgrounds and chance < 0.4:
            photograph = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            height, width = photograph.shape[:2]
            cut = int(rng.uniform(side, min(height, width) + 1))
            top, left = rng.integers(height - cut + 1), rng.integers(width - cut + 1)
            part = Image.fromarray(photograph[top : top + cut, left : left + cut])
            return np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
        if chance < 0.5:
            return np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
        return _drawn_background(side, int(rng.integers(_DRAWN)), chance < 0.75)


def named_by_colour(cut_out: CutOut) -> bool:
    """Whether its name tells a colour, which must then stay: ``green apple``."""
    return any(word in COLOURS for word in cut_out.name.split())


@lru_cache(maxsize=2 * _DRAWN)
def _drawn_background(side: int, seed: int, table: bool) -> UInt8:
    return (table_scene if table else textured)((side, side), np.random.default_rng(seed))


def as_taken(image_rgb: UInt8, rng: np.random.Generator) -> UInt8:
    """The picture as a camera might give it: light, blur, noise and JPEG, each with some chance.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.
        rng: chooses.
    """
    image = Image.fromarray(image_rgb)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
    if rng.random() < 0.5:
        table = np.arange(256) / 255
        table = np.clip(table ** rng.uniform(0.75, 1.35) * rng.uniform(0.8, 1.15), 0, 1)
        image = image.point([round(255 * float(v)) for v in table] * 3)
    pixels = np.asarray(image)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 9), pixels.shape).astype(np.float32)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(45, 95)))
        pixels = np.asarray(Image.open(file))
    return pixels


def photographs(folder: Path = BACKGROUNDS) -> tuple[UInt8, ...]:
    """The backgrounds of Debian's mate-backgrounds, at most 640 pixels high; GPL-2+.

    Raises:
        ExportError: the package is not installed.
    """
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (".jpg", ".png")]
    paths = [p for p in paths if p.stem in _PLAIN]
    if not paths:
        raise ExportError(f"no backgrounds in {folder}: apt-get install {BACKGROUNDS_PACKAGE}")
    found = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        image.thumbnail((1024, 640))
        found.append(np.asarray(image))
    return tuple(found)
