"""A labelled clip: a story that a camera with its faults has filmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.clips.camera import Camera
from edgevlm.export.nano_data.story import Change
from edgevlm.frame import UInt8

Role = Literal["tune", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """One clip, not yet filmed.

    Args:
        name: family and role, as in ``table-judge``.
        role: whether thresholds may be chosen with it.
        what: one line about it.
        fps: frames a second.
        count: frames.
        changes: every change that is to be seen, in order.
        pictures: the frames without the camera's faults, uint8 RGB ``(height, width, 3)``.
        camera: the faults.
        complete: False where more moves than is labelled, so that no wake is called false.
    """

    name: str
    role: Role
    what: str
    fps: float
    count: int
    changes: tuple[Change, ...]
    pictures: Callable[[], Iterator[UInt8]]
    camera: Camera
    complete: bool = True
