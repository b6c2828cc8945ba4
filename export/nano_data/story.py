"""Scenes in time: what changes when, to the frame, and where that can be seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.export.nano_data.composition import Box, box_of
from edgevlm.frame import UInt8

S = TypeVar("S", bound=Hashable)
DIFFERENT = 8  # grey levels by which a pixel must move, in some channel, to count as changed
VISIBLE_PX = 40  # fewer changed pixels are no change that anybody is asked to see
NEARLY = 0.25
_FOR_EVER = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something became different, and stays so for a while.

    Args:
        kind: ``appear``, ``vanish``, ``move``, ``colour`` ...
        begun: the first frame that is not as before.
        shown: the first frame that shows it nearly as it then stays: at most ``NEARLY`` of the
            pixels are still to change.
        frame: the first frame that shows it as it then stays; ``begun <= shown <= frame``.
        until: the first frame that no longer shows it.
        box_xyxy: of every pixel that differs, the right and lower edge outside.
        area_px: how many pixels differ, by more than ``DIFFERENT`` levels.
        contrast: grey levels by which they do, on average, in the channel that moved most.
    """

    kind: str
    begun: int
    shown: int
    frame: int
    until: int
    box_xyxy: Box
    area_px: int
    contrast: float


def seen_difference(before: UInt8, after: UInt8) -> tuple[Box, int, float] | None:
    """Box, number of pixels and mean contrast of what differs between two clean pictures.

    Returns:
        None if fewer than ``VISIBLE_PX`` pixels do.
    """
    moved = np.abs(before.astype(np.int16) - after).max(2)
    mask = moved > DIFFERENT
    box, area = box_of(mask), int(mask.sum())
    if box is None or area < VISIBLE_PX:
        return None
    return box, area, float(moved[mask].mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Story(Generic[S]):
    """What a fixed camera would see, without its noise.

    Args:
        count: frames.
        fps: frames a second.
        states: what holds from which frame on, in order, the first from frame 0.
        paint: the picture of a state, uint8 RGB ``(height, width, 3)``.
        changes: in order of ``frame``.
    """

    count: int
    fps: float
    states: tuple[tuple[int, S], ...]
    paint: Callable[[S], UInt8]
    changes: tuple[Change, ...]

    def state(self, frame: int) -> S:
        """What holds in a frame."""
        at = bisect_right([begun for begun, _ in self.states], frame) - 1
        return self.states[at][1]


class Telling(Generic[S]):
    """Makes a story, change by change.

    Args:
        paint: as in ``Story``.
        first: the state at the beginning.
        fps: frames a second.
        rng: chooses the pauses.
        gap_s: shortest and longest pause before a change begins.
        quiet_s: how long nothing happens at the beginning.
    """

    def __init__(
        self,
        paint: Callable[[S], UInt8],
        first: S,
        fps: float,
        rng: np.random.Generator,
        gap_s: tuple[float, float],
        quiet_s: float,
    ) -> None:
        if not 0 < gap_s[0] <= gap_s[1]:
            raise ContractError(f"a pause lasts from a to b seconds with 0 < a <= b, got {gap_s}")
        self._paint = paint
        self._fps = fps
        self._rng = rng
        self._gap_s = gap_s
        self._next = round(quiet_s * fps)
        self._states: list[tuple[int, S]] = [(0, first)]
        self._changes: list[Change] = []
        self._open: dict[Hashable, int] = {}

    @property
    def now(self) -> S:
        """The state after everything told so far."""
        return self._states[-1][1]

    @property
    def told(self) -> int:
        """How many changes there are."""
        return len(self._changes)

    def change(self, kind: str, subject: Hashable, to: S, way: Sequence[S] = ()) -> bool:
        """Add a change after a pause.

        Args:
            kind: of it.
            subject: what changes; a later change of the same subject ends this one.
            to: the state that it leads to.
            way: states of one frame each that lie between.

        Returns:
            False, and nothing was added, if no eye would see it.
        """
        seen = seen_difference(self._paint(self.now), self._paint(to))
        if seen is None:
            return False
        box, area, contrast = seen
        begun = self._next
        self._states += [(begun + n, state) for n, state in enumerate(way)]
        frame = begun + len(way)
        self._states.append((frame, to))
        if (before := self._open.get(subject)) is not None:
            self._changes[before] = replace(self._changes[before], until=begun)
        self._open[subject] = len(self._changes)
        self._changes.append(
            Change(
                kind=kind, begun=begun, shown=self._shown(begun, way, to, area),
                frame=frame, until=_FOR_EVER,
                box_xyxy=box, area_px=area, contrast=contrast,
            )
        )  # fmt: skip
        self._next = frame + round(self._rng.uniform(*self._gap_s) * self._fps)
        return True

    def _shown(self, begun: int, way: Sequence[S], to: S, area_px: int) -> int:
        """The frame from which on little of the way is left."""
        last = self._paint(to)
        at = len(way)
        while at:
            left = seen_difference(self._paint(way[at - 1]), last)
            if left is not None and left[1] > NEARLY * area_px:
                break
            at -= 1
        return begun + at

    def end(self) -> Story[S]:
        """The whole story; it ends with a pause."""
        changes = (replace(c, until=min(c.until, self._next)) for c in self._changes)
        return Story(
            count=self._next,
            fps=self._fps,
            states=tuple(self._states),
            paint=self._paint,
            changes=tuple(changes),
        )
