"""How well defects are told from good pictures: textures with drawn defects, a part on a fixture.

``python -m benchmarks.anomaly bundles/nano [--good 4]`` prints the area under the ROC curve of
pictures and of patches with 95 % intervals (bootstrap over pictures), the share of good pictures
over the limit and of defects over it, and what a picture costs. Textures are scikit-image's brick,
grass and gravel, cut at random places; nothing was trained on them. Which stage of nano's encoder
gives the patches was chosen among four with other cuts of the same textures, so their figures are
a little optimistic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from benchmarks.drawn_part import SCREW, part
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.anomaly import Anomaly, anomaly, teach_normal

UInt8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
SIZE, PICTURES, DRAWS = 224, 60, 1000
INSIDE = 0.2  # share of a patch that a defect covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Good pictures to teach, good ones to test, and defects with their places."""

    name: str
    fixed: bool
    taught: list[UInt8]
    good: list[UInt8]
    defects: list[tuple[UInt8, Mask]]


def texture(name: str, good: int, seed: int = 20, pictures: int = PICTURES) -> Case:
    """Cuts of one of scikit-image's textures."""
    rng = np.random.default_rng(seed)
    whole: UInt8 = getattr(data, name)()

    def cut() -> UInt8:
        y, x = rng.integers(0, min(whole.shape) - SIZE, 2)
        return np.repeat(whole[y : y + SIZE, x : x + SIZE, None], 3, axis=2)

    return Case(
        name=name,
        fixed=False,
        taught=[cut() for _ in range(good)],
        good=[cut() for _ in range(pictures)],
        defects=[damaged(cut(), rng, n) for n in range(pictures)],
    )


def damaged(picture: UInt8, rng: np.random.Generator, number: int) -> tuple[UInt8, Mask]:
    """A scratch, a stain, a smear and a coloured spot, in turn."""
    marked = np.zeros(picture.shape[:2], np.uint8)
    y, x = (int(v) for v in rng.integers(30, SIZE - 60, 2))
    size = int(rng.integers(14, 36))
    changed = picture.astype(np.float32)
    kind = number % 4
    if kind == 0:
        end = (x + int(rng.integers(-50, 50)), y + int(rng.integers(20, 50)))
        cv2.line(marked, (x, y), end, 1, int(rng.integers(2, 5)))
        changed[marked > 0] = rng.choice([20, 235])
    elif kind == 1:
        cv2.circle(marked, (x, y), size // 2, 1, -1)
        changed[marked > 0] *= 0.5
    elif kind == 2:
        marked[y : y + size, x : x + size] = 1
        changed[marked > 0] = cv2.GaussianBlur(changed, (0, 0), 4)[marked > 0]
    else:
        cv2.circle(marked, (x, y), size // 3, 1, -1)
        changed[marked > 0] = 0.5 * changed[marked > 0] + 0.5 * np.array([180, 40, 40])
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8), marked > 0


def fixture(good: int, pictures: int = PICTURES) -> Case:
    """The part of the tests, under a camera that stands still: its screw missing, or scratched."""
    defects = []
    for n in range(pictures):
        picture = part(2000 + n, screw=n % 2 == 1, scratch=n % 2 == 1)
        marked = np.zeros(picture.shape[:2], np.uint8)
        if n % 2:
            cv2.line(marked, (60, 115), (130, 132), 1, 3)
        else:
            left, top, right, bottom = SCREW
            marked[top:bottom, left:right] = 1
        defects.append((picture, marked > 0))
    return Case(
        name="fixture",
        fixed=True,
        taught=[part(n) for n in range(good)],
        good=[part(1000 + n) for n in range(pictures)],
        defects=defects,
    )


def roc_area(high: NDArray[np.floating], low: NDArray[np.floating]) -> float:
    """Share of pairs in which the first is larger, ties counting half (Mann and Whitney)."""
    order = np.searchsorted(np.sort(low), high, "left") + np.searchsorted(
        np.sort(low), high, "right"
    )
    return float(order.mean() / 2 / len(low))


def interval(measure: Callable[[NDArray[np.int64]], float], count: int) -> tuple[float, float]:
    """95 % of a measure over pictures that are drawn again and again."""
    rng = np.random.default_rng(1)
    found = [measure(rng.integers(0, count, count)) for _ in range(DRAWS)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How well defects are told from good pictures.

    Args:
        name: of the case.
        area: under the ROC curve of pictures.
        ends: its 95 % interval.
        patches: area under the ROC curve of patches.
        alarms: share of good pictures over the limit.
        found: share of defects over it.
        each_ms: of a picture.
    """

    name: str
    area: float
    ends: tuple[float, float]
    patches: float
    alarms: float
    found: float
    each_ms: float


def told(model: Vlm, case: Case) -> Told:
    """Teach a case's good pictures and test the others."""
    bank = teach_normal(model, case.taught, fixed=case.fixed)
    begun = time.perf_counter()
    good = [anomaly(model, picture, bank) for picture in case.good]
    each = 1e3 * (time.perf_counter() - begun) / len(good)
    bad = [anomaly(model, picture, bank) for picture, _ in case.defects]
    high, low = (np.array([one.score for one in some]) for some in (bad, good))
    return Told(
        name=case.name,
        area=roc_area(high, low),
        ends=interval(lambda chosen: roc_area(high[chosen], low[chosen]), len(good)),
        patches=_patch_area(bad, [mask for _, mask in case.defects]),
        alarms=float(np.mean([one.unlike for one in good])),
        found=float(np.mean([one.unlike for one in bad])),
        each_ms=each,
    )


def row(of: Told) -> str:
    """One line of the table."""
    return (
        f"{of.name:10} {of.area:.3f} [{of.ends[0]:.3f}, {of.ends[1]:.3f}]   {of.patches:.3f}    "
        f"{100 * of.alarms:5.1f} %  {100 * of.found:5.1f} %  {of.each_ms:6.1f}"
    )


def _patch_area(found: list[Anomaly], masks: list[Mask]) -> float:
    """Patches that a defect covers against the others of the same pictures."""
    inside, outside = [], []
    for one, mask in zip(found, masks, strict=True):
        place, (height, width) = one.seen.placement, one.seen.grid
        cell = one.seen.cell
        shift = np.array([
            [place.scale_x / cell[1], 0, place.left / cell[1]],
            [0, place.scale_y / cell[0], place.top / cell[0]],
        ])  # fmt: skip
        share = _shares(mask, shift, (height, width))
        known = np.isfinite(one.map)
        inside.append(one.map[known & (share > INSIDE)])
        outside.append(one.map[known & (share <= 0)])
    return roc_area(np.concatenate(inside), np.concatenate(outside))


def _shares(mask: Mask, shift: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.float64]:
    """The part of every patch that a mask covers."""
    y, x = np.nonzero(mask)
    column = np.floor(shift[0, 0] * (x + 0.5) + shift[0, 2]).astype(int)
    line = np.floor(shift[1, 1] * (y + 0.5) + shift[1, 2]).astype(int)
    counts = np.zeros(grid)
    np.add.at(counts, (line, column), 1)
    found: NDArray[np.float64] = counts * shift[0, 0] * shift[1, 1]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--good", type=int, default=4, help="pictures to teach")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    print(f"{chosen.good} good pictures taught, {PICTURES} good and {PICTURES} defects tested")
    print("           pictures, 95 %         patches   alarms   found      ms")
    with load(chosen.bundle, threads=chosen.threads) as model:
        print(row(told(model, fixture(chosen.good))), flush=True)
        for name in ("brick", "grass", "gravel"):
            print(row(told(model, texture(name, chosen.good))), flush=True)


if __name__ == "__main__":
    main()
