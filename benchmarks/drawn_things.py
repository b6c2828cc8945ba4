"""Scenes with a thing among others, and without it, from cut-out photographs: for `locate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.nano_data.backgrounds import table_scene, textured
from edgevlm.export.nano_data.composition import Box, Composition, Placement, compose
from edgevlm.export.nano_data.layout import free_place
from edgevlm.export.nano_data.stamps import Stamp

UInt8 = NDArray[np.uint8]
SIZE = (640, 480)
SIDE = (90, 220)  # pixels of a thing's longer side
TURNED = 20.0  # degrees, either way


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One thing.

    Args:
        name: what it is.
        shots: pictures of it with its box.
        scene: with the thing and others.
        box_xyxy: where it is in the scene.
        without: a scene with other things only.
    """

    name: str
    shots: list[tuple[UInt8, Box]]
    scene: UInt8
    box_xyxy: Box
    without: UInt8


def drawn(
    stamps: Sequence[Stamp], rng: np.random.Generator, side: tuple[int, int] = SIDE
) -> Composition:
    """Stamps on a table or a texture, none hiding another; the first has a side of its own."""
    background = table_scene(SIZE, rng) if rng.random() < 0.5 else textured(SIZE, rng)
    stand: list[Placement] = []
    for n, stamp in enumerate(stamps):
        longer = int(rng.integers(*(side if n == 0 else SIDE)))
        wanted = Placement(
            stamp=stamp,
            centre_xy=(0, 0),
            side=longer,
            degrees=float(rng.uniform(-TURNED, TURNED)),
        )
        if (free := free_place(wanted, stand, SIZE, rng)) is not None:
            stand.append(free)
    return compose(background, stand)


def cases(
    stamps: Sequence[Stamp], count: int, shots: int, side: tuple[int, int], seed: int
) -> list[Case]:
    """So many things, drawn from the stamps; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    order = [stamps[n] for n in rng.permutation(len(stamps))]
    found = []
    for n, stamp in enumerate(order[:count]):
        others = [order[(n + 7 * k + 5) % len(order)] for k in range(8)]
        shown = [_with(stamp, [others[k % 8]], rng, SIDE) for k in range(shots)]
        image, box = _with(stamp, others[:3], rng, side)
        found.append(
            Case(
                name=stamp.name,
                shots=shown,
                scene=image,
                box_xyxy=box,
                without=drawn(others[3:7], rng).image_rgb,
            )
        )
    return found


def _with(
    stamp: Stamp, others: list[Stamp], rng: np.random.Generator, side: tuple[int, int]
) -> tuple[UInt8, Box]:
    """A picture that shows the stamp whole, and where."""
    while True:
        made = drawn([stamp, *others], rng, side)
        for thing in made.things:
            if thing.placement.stamp is stamp and thing.seen > 0.95:
                return made.image_rgb, thing.box_xyxy
