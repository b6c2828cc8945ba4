"""What stands on a rendered table: solids and groceries, their sizes, colours and places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.nano_data.groceries import BY_NAME
from edgevlm.export.nano_data.parts import PAINT
from edgevlm.export.nano_data.table_model import MESH_M, SLOTS

_REACH_M = 0.19  # from the middle of the table
_GAP_M = 0.012
_AS_MATERIAL = 0.5, 0.5, 0.5, 1.0  # MuJoCo's sign that a geom has its material's colour
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white", "grey")
KINDS = ("cube", "box", "ball", "cylinder", "capsule", "cone", "pyramid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One thing on the table.

    Args:
        kind: one of ``KINDS``, or the name of a grocery.
        colour: one of ``COLOURS``; None for that of its texture.
        size_m: as MuJoCo has it: half sides, radius, or radius and half length.
        centre_m: x, y and z; the table's top is at z = 0.
        quaternion: its turn, w first.
        radius_m: of the circle around it on the table.
    """

    kind: str
    colour: str | None
    size_m: tuple[float, float, float]
    centre_m: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    radius_m: float


def layout(rng: np.random.Generator, groceries: bool = False) -> tuple[Solid, ...]:
    """One to ``SLOTS`` things that do not touch; often some of one kind.

    Args:
        rng: chooses everything.
        groceries: whether half of the things are such.
    """
    count = int(rng.integers(1, SLOTS + 1))
    known = (KINDS, tuple(BY_NAME)) if groceries else (KINDS,)
    kinds = [str(rng.choice(known[int(rng.integers(len(known)))])) for _ in range(count)]
    if count > 1 and rng.random() < 0.5:
        kinds[: int(rng.integers(2, count + 1))] = [kinds[0]] * SLOTS
        kinds = kinds[:count]
    placed: list[Solid] = []
    for kind in kinds:
        for _ in range(40):
            new = _solid(kind, rng)
            if all(_apart(new, old) for old in placed):
                placed.append(new)
                break
    return tuple(placed)


def paint(solid: Solid) -> tuple[float, float, float, float]:
    """Its colour as MuJoCo has it, 0 to 1, alpha last."""
    if solid.colour is None:
        return _AS_MATERIAL
    red, green, blue = PAINT[solid.colour]
    return red / 255, green / 255, blue / 255, 1.0


def _apart(a: Solid, b: Solid) -> bool:
    distance = np.hypot(a.centre_m[0] - b.centre_m[0], a.centre_m[1] - b.centre_m[1])
    return bool(distance > a.radius_m + b.radius_m + _GAP_M)


def _solid(kind: str, rng: np.random.Generator) -> Solid:
    lying = False
    if kind in BY_NAME:
        size = (0.0, 0.0, 0.0)
        radius, height = BY_NAME[kind].radius_m, BY_NAME[kind].bottom_m
    elif kind == "cube":
        size = (float(rng.uniform(0.022, 0.04)),) * 3
        radius, height = size[0] * 2**0.5, size[2]
    elif kind == "box":
        size = float(rng.uniform(0.04, 0.06)), float(rng.uniform(0.02, 0.03)), float(
            rng.uniform(0.014, 0.024))  # fmt: skip
        radius, height = float(np.hypot(size[0], size[1])), size[2]
    elif kind == "ball":
        size = (float(rng.uniform(0.024, 0.042)), 0.0, 0.0)
        radius = height = size[0]
    elif kind in ("cylinder", "capsule"):
        size = float(rng.uniform(0.02, 0.034)), float(rng.uniform(0.034, 0.052)), 0.0
        lying = kind == "capsule" or bool(rng.random() < 0.25)
        length = size[1] + (size[0] if kind == "capsule" else 0)
        radius = max(size[0], length) if lying else size[0]
        height = size[0] if lying else size[1]
    else:
        size = (MESH_M[int(rng.integers(len(MESH_M)))], 0.0, 0.0)
        radius, height = size[0], 0.0
    angle, far = rng.uniform(0, 2 * np.pi), _REACH_M * rng.uniform(0, 1) ** 0.5
    return Solid(
        kind=kind,
        colour=None if kind in BY_NAME else str(rng.choice(COLOURS)),
        size_m=size,
        centre_m=(float(far * np.cos(angle)), float(far * np.sin(angle)), height),
        quaternion=_turn(float(rng.uniform(0, 2 * np.pi)), lying),
        radius_m=radius,
    )


def _turn(angle: float, lying: bool) -> tuple[float, float, float, float]:
    """About the vertical; first laid onto its side where it lies."""
    c, s = float(np.cos(angle / 2)), float(np.sin(angle / 2))
    if not lying:
        return c, 0.0, 0.0, s
    half = 2**-0.5  # a quarter turn about x, then the turn about z
    return c * half, c * half, s * half, s * half
