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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_things import SIDE, Case, cases
from edgevlm.export.nano_data.stamps import held_out_stamps, training_stamps
from edgevlm.runtime.model.load import load
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


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % of a share."""
    z = 1.96
    share, spread = hits / count, z / (2 * count)
    middle = share + z * spread
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return float((middle - half) / scale), float((middle + half) / scale)


def right_ones(seen: Location, case: Case) -> list[tuple[float, bool]]:
    """Every place with its score; the best one that overlaps enough is right."""
    places = sorted((*seen.found, *seen.rejected), key=lambda one: -one.score)
    told, done = [], False
    for one in places:
        hit = not done and overlap(one.box_xyxy, case.box_xyxy) >= OVERLAP
        done = done or hit
        told.append((one.score, hit))
    return told


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
    places: list[tuple[float, bool]] = []
    found = false = boxes = 0
    overlaps, like, unlike, limits = [], [], [], []
    spent = 0.0
    with load(chosen.bundle, threads=chosen.threads) as model:
        for case in drawn:
            thing = teach_thing(model, case.name, taught(case, chosen.crops))
            begun = time.perf_counter()
            seen = locate(model, case.scene, [thing], small=chosen.small)
            spent += time.perf_counter() - begun
            empty = locate(model, case.without, [thing], small=chosen.small)
            told = right_ones(seen, case)
            places += told + [(one.score, False) for one in (*empty.found, *empty.rejected)]
            near = [overlap(one.box_xyxy, case.box_xyxy) for one in seen.found]
            found += any(share >= OVERLAP for share in near)
            boxes += sum(share < OVERLAP for share in near)
            false += bool(empty.found)
            overlaps += [max(near, default=0.0)]
            like.append(max((score for score, hit in told if hit), default=0.0))
            unlike.append(max(one.score for one in (*empty.found, *empty.rejected)))
            limits.append(thing.rule.threshold)
    scores, right = np.array([s for s, _ in places]), np.array([r for _, r in places])
    count = len(drawn)
    print(f"{count} {chosen.split} things, {chosen.shots} {'crops' if chosen.crops else 'boxes'}")
    area = average_precision(scores, right, count)
    print(f"average precision at {OVERLAP}: {area:.3f}; mean overlap {np.mean(overlaps):.2f}")
    for said, hits in (("found", found), ("scenes without it, and something found", false)):
        low, high = wilson(hits, count)
        print(f"{said}: {100 * hits / count:.0f} % [{100 * low:.0f}, {100 * high:.0f}]")
    print(f"wrong boxes in scenes with it: {boxes}")
    print(
        f"scores of the thing, lowest and median: {min(like):.2f} {np.median(like):.2f}; of other "
        f"things, median and highest: {np.median(unlike):.2f} {max(unlike):.2f}; thresholds "
        f"{min(limits):.3f} to {max(limits):.3f}"
    )
    print(f"{1e3 * spent / count:.0f} ms a scene")


if __name__ == "__main__":
    main()
