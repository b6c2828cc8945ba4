"""How well a gate did on a labelled clip: what it missed, woke for nothing, how late it was."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb

import numpy as np

from edgevlm.export.nano_data.story import Change

CONFIDENCE = 0.95


@dataclass(slots=True)
class Verdict:
    """One gate on one clip, or on several together.

    Args:
        frames: looked at.
        passed: let through.
        changes: labelled.
        missed: changes of which no frame was let through in time.
        delays: of the others, frames from the first that shows it for good.
        delays_ms: the same in milliseconds.
        false_wakes: frames let through with nothing new since the last one that was.
        judged_frames: frames of clips in which every change is labelled.
        cost_ms: processor time of every frame.
    """

    frames: int = 0
    passed: int = 0
    changes: int = 0
    missed: list[Change] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    false_wakes: int = 0
    judged_frames: int = 0
    cost_ms: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float | int | None]:
        """Plain figures; rates in percent, None where there is nothing to divide by."""
        missed = len(self.missed)
        return {
            "frames": self.frames,
            "passed": self.passed,
            "skip_percent": _percent(self.frames - self.passed, self.frames),
            "false_wake_percent": _percent(self.false_wakes, self.judged_frames),
            "changes": self.changes,
            "missed": missed,
            "miss_percent": _percent(missed, self.changes),
            "miss_at_most_percent": (
                round(100 * upper_bound(missed, self.changes), 2) if self.changes else None
            ),
            "delay_frames_p50": _at(self.delays, 50),
            "delay_frames_p95": _at(self.delays, 95),
            "delay_ms_p50": _at(self.delays_ms, 50),
            "delay_ms_p95": _at(self.delays_ms, 95),
            "cost_ms_p50": round(statistics.median(self.cost_ms), 3) if self.cost_ms else None,
            "cost_ms_p95": _at(self.cost_ms, 95),
        }

    def add(self, other: Verdict) -> None:
        """Count another clip in."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def judge(
    changes: Sequence[Change],
    passed: Sequence[int],
    frames: int,
    fps: float,
    within_s: float,
    complete: bool = True,
) -> Verdict:
    """Hold the frames that a gate let through against the labels.

    A change is missed if no frame that shows it is let through before it ends, nor within
    ``within_s`` of the first that shows it for good.

    Args:
        changes: labels of the clip.
        passed: indices of the frames let through, ascending.
        frames: of the clip.
        fps: frames a second.
        within_s: seconds.
        complete: every change of the clip is labelled; else no wake is called false.
    """
    verdict = Verdict(frames=frames, passed=len(passed), changes=len(changes))
    for change in changes:
        end = min(change.until, change.frame + max(1, round(within_s * fps)))
        seen = next((f for f in passed if change.shown <= f < end), None)
        if seen is None:
            verdict.missed.append(change)
            continue
        verdict.delays.append(max(0, seen - change.frame))
        verdict.delays_ms.append(1e3 * verdict.delays[-1] / fps)
    if complete:
        verdict.judged_frames = frames
        verdict.false_wakes = sum(
            not any(c.begun <= now and c.frame > before for c in changes)
            for before, now in pairwise(passed)
        )
    return verdict


def upper_bound(missed: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The exact one-sided upper bound of a rate.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
    of the binomial", 1934. For nothing missed it is ``1 - (1 - confidence) ** (1 / of)``, about
    ``3 / of``.

    Args:
        missed: how often it happened, 0 to ``of``.
        of: how often it could have.
        confidence: that the rate is no higher.
    """
    if missed >= of:
        return 1.0
    low, high = missed / of, 1.0
    for _ in range(60):  # the chance of so few falls as the rate rises
        middle = (low + high) / 2
        few = sum(comb(of, k) * middle**k * (1 - middle) ** (of - k) for k in range(missed + 1))
        low, high = (middle, high) if few > 1 - confidence else (low, middle)
    return high


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _at(values: Sequence[float], percentile: float) -> float | None:
    return round(float(np.percentile(values, percentile)), 3) if values else None
