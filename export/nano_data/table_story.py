"""Stories of stamps on a background: they appear, vanish, move, change colour, are exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from edgevlm.export.nano_data.composition import Placement, compose
from edgevlm.export.nano_data.layout import free_place
from edgevlm.export.nano_data.stamps import Stamp
from edgevlm.export.nano_data.story import Story, Telling
from edgevlm.frame import UInt8

Scene = tuple[Placement, ...]
KINDS = ("appear", "vanish", "move", "colour", "replace")
SLIDE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How a story goes.

    Args:
        stamps: what may stand there.
        changes: how many.
        fps: frames a second.
        sides_px: shortest and longest of a stamp's longer side.
        things: fewest and most at a time.
        gap_s: shortest and longest pause between two changes.
        sliding: share of appearances and moves that take ``SLIDE_S`` instead of one frame.
        quiet_s: how long nothing happens at the beginning.
    """

    stamps: Sequence[Stamp]
    changes: int
    fps: float
    sides_px: tuple[int, int]
    things: tuple[int, int] = (2, 6)
    gap_s: tuple[float, float] = (1.2, 2.6)
    sliding: float = 0.3
    quiet_s: float = 4.0


def table_story(background_rgb: UInt8, table: Table, rng: np.random.Generator) -> Story[Scene]:
    """Tell such a story; the same generator gives the same one.

    Args:
        background_rgb: uint8 ``(height, width, 3)``.
        table: how it goes.
        rng: chooses what happens.
    """
    teller = _Teller(background_rgb, table, rng)
    while teller.telling.told < table.changes:
        teller.step(str(rng.choice(KINDS)))
    return teller.telling.end()


class _Teller:
    def __init__(self, background_rgb: UInt8, table: Table, rng: np.random.Generator) -> None:
        self._table = table
        self._rng = rng
        self._size_wh = background_rgb.shape[1], background_rgb.shape[0]
        scene: Scene = ()
        while len(scene) < table.things[0]:
            scene += self._placed(scene)

        @lru_cache(maxsize=4)
        def paint(scene: Scene) -> UInt8:
            return compose(background_rgb, scene).image_rgb

        self.telling = Telling(paint, scene, table.fps, rng, table.gap_s, table.quiet_s)

    def step(self, kind: str) -> None:
        """Try one change; where it cannot be or cannot be seen, nothing happens."""
        scene, (fewest, most) = self.telling.now, self._table.things
        if kind == "appear":
            if len(scene) < most and (new := self._placed(scene)):
                way = [(*scene, p) for p in self._slide(new[0])]
                self.telling.change(kind, new[0].stamp, scene + new, way)
            return
        at = int(self._rng.integers(len(scene)))
        old, others = scene[at], scene[:at] + scene[at + 1 :]
        if kind == "vanish":
            if len(scene) > fewest:
                self.telling.change(kind, old.stamp, others)
            return
        if kind == "replace":
            stamp = self._stamp(scene)
            new_one: Placement | None = replace(old, stamp=stamp, hue=0.0)
        elif kind == "colour":
            new_one = replace(old, hue=(old.hue + float(self._rng.uniform(70, 290))) % 360)
        else:
            new_one = free_place(old, others, self._size_wh, self._rng)
        if new_one is not None:
            before, after = scene[:at], scene[at + 1 :]
            moves = kind == "move"
            way = [(*before, p, *after) for p in self._slide(new_one, old)] if moves else []
            self.telling.change(kind, old.stamp, (*before, new_one, *after), way)

    def _stamp(self, scene: Scene) -> Stamp:
        here = {placement.stamp for placement in scene}
        left = [stamp for stamp in self._table.stamps if stamp not in here]
        return left[int(self._rng.integers(len(left)))]

    def _placed(self, scene: Scene) -> Scene:
        low, high = self._table.sides_px
        new = Placement(
            stamp=self._stamp(scene),
            centre_xy=(0, 0),
            side=round(float(np.exp(self._rng.uniform(np.log(low), np.log(high))))),
            degrees=float(self._rng.uniform(-20, 20)),
            mirrored=bool(self._rng.random() < 0.5),
        )
        placed = free_place(new, scene, self._size_wh, self._rng)
        return () if placed is None else (placed,)

    def _slide(self, to: Placement, old: Placement | None = None) -> list[Placement]:
        """The frames in which it comes in from a side, or from its old place; none mostly."""
        if self._rng.random() >= self._table.sliding:
            return []
        x, y = to.centre_xy
        start = (-to.side / 2, y) if old is None else old.centre_xy
        steps = round(SLIDE_S * self._table.fps)
        done = [(n + 1) / (steps + 1) for n in range(steps)]
        places = [(start[0] + d * (x - start[0]), start[1] + d * (y - start[1])) for d in done]
        return [replace(to, centre_xy=place) for place in places]
