"""How well things are found again that were shown a few times, and how seldom where they are not.

``python -m benchmarks.locate bundles/nano`` teaches cut-out photographs (Debian's
tuxpaint-stamps-default) that nothing was trained or tuned on, each in a few drawn scenes, and looks
for it in a scene with three other things and in one with four others only. It prints the average
precision at an overlap of 0.5 over all places that were looked at, the share of things found and
the share of scenes without them in which something was; the intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_things import SIDE, Case, cases
from edgevlm.export.nano_data.stamps import held_out_stamps, training_stamps
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.locate import Location, locate, overlap
from edgevlm.runtime.perception.teach_thing import Shot, teach_thing

OVERLAP = 0.5
SMALL = (34, 60)  # pixels of the longer side, in pictures of 640


def taught(case: Case, crops: bool) -> list[Shot]:
    """Pictures of a thing, as boxes or as crops."""
    if not crops:
        return [Shot(image=image, box_xyxy=box) for image, box in case.shots]
    return [
        Shot(image=np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]]))
        for image, box in case.shots
    ]


def average_precision(scores: NDArray[np.float64], right: NDArray[np.bool_], count: int) -> float:
    """Area under precision over recall, precision made to fall (as COCO does it).

    Args:
        scores: of places.
        right: whether each is where a thing is; at most one place a thing.
        count: things.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(order) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right[order]].sum() / count)


def right_ones(seen: Location, case: Case) -> list[tuple[float, bool]]:
    """Every place with its score; the best one that overlaps enough is right."""
    places = sorted((*seen.found, *seen.rejected), key=lambda one: -one.score)
    told, done = [], False
    for one in places:
        hit = not done and overlap(one.box_xyxy, case.box_xyxy) >= OVERLAP
        done = done or hit
        told.append((one.score, hit))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What looking for every thing in two scenes gave.

    Args:
        precision: average precision at ``OVERLAP`` over all places that were looked at.
        overlap: mean of the best box of each scene with the thing, 0 where none was found.
        found: things that were, of all.
        false: scenes without the thing in which something was found.
        boxes: wrong ones in scenes with it.
        like: scores of the things.
        unlike: the best score of each scene without it.
        limits: thresholds.
        each_ms: of a scene.
    """

    precision: float
    overlap: float
    found: Share
    false: Share
    boxes: int
    like: tuple[float, ...]
    unlike: tuple[float, ...]
    limits: tuple[float, ...]
    each_ms: float


def looked(
    model: Vlm, drawn: Sequence[Case], *, crops: bool = False, small: bool = False
) -> Looked:
    """Teach every thing, and look for it where it is and where it is not.

    Args:
        model: a bundle that locates.
        drawn: things with their scenes.
        crops: teach crops, not boxes.
        small: the things are small, and looked for as such.
    """
    places: list[tuple[float, bool]] = []
    found = false = boxes = 0
    overlaps, like, unlike, limits = [], [], [], []
    spent = 0.0
    for case in drawn:
        thing = teach_thing(model, case.name, taught(case, crops))
        begun = time.perf_counter()
        seen = locate(model, case.scene, [thing], small=small)
        spent += time.perf_counter() - begun
        empty = locate(model, case.without, [thing], small=small)
        told = right_ones(seen, case)
        places += told + [(one.score, False) for one in (*empty.found, *empty.rejected)]
        near = [overlap(one.box_xyxy, case.box_xyxy) for one in seen.found]
        found += any(share >= OVERLAP for share in near)
        boxes += sum(share < OVERLAP for share in near)
        false += bool(empty.found)
        overlaps.append(max(near, default=0.0))
        like.append(max((score for score, hit in told if hit), default=0.0))
        unlike.append(max(one.score for one in (*empty.found, *empty.rejected)))
        limits.append(thing.rule.threshold)
    scores, right = np.array([s for s, _ in places]), np.array([r for _, r in places])
    return Looked(
        precision=average_precision(scores, right, len(drawn)),
        overlap=float(np.mean(overlaps)),
        found=Share(found, len(drawn)),
        false=Share(false, len(drawn)),
        boxes=boxes,
        like=tuple(like),
        unlike=tuple(unlike),
        limits=tuple(limits),
        each_ms=1e3 * spent / len(drawn),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--things", type=int, default=20)
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--crops", action="store_true", help="teach crops, not boxes")
    parser.add_argument("--small", action="store_true", help="things of 34 to 60 pixels in 640")
    parser.add_argument("--split", choices=("held-out", "training"), default="held-out")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    stamps = held_out_stamps() if chosen.split == "held-out" else training_stamps()
    side = SMALL if chosen.small else SIDE
    drawn = cases(stamps, chosen.things, chosen.shots, side, chosen.seed)
    with load(chosen.bundle, threads=chosen.threads) as model:
        told = looked(model, drawn, crops=chosen.crops, small=chosen.small)
    kind = "crops" if chosen.crops else "boxes"
    print(f"{len(drawn)} {chosen.split} things, {chosen.shots} {kind}")
    print(f"average precision at {OVERLAP}: {told.precision:.3f}; mean overlap {told.overlap:.2f}")
    print(f"found: {told.found.percent()} %")
    print(f"scenes without it, and something found: {told.false.percent()} %")
    print(f"wrong boxes in scenes with it: {told.boxes}")
    print(
        f"scores of the thing, lowest and median: {min(told.like):.2f} {np.median(told.like):.2f}; "
        f"of other things, median and highest: {np.median(told.unlike):.2f} "
        f"{max(told.unlike):.2f}; thresholds {min(told.limits):.3f} to {max(told.limits):.3f}"
    )
    print(f"{told.each_ms:.0f} ms a scene")


if __name__ == "__main__":
    main()
