"""How sure labels are to be, and "none of these" beside them: fitted, and then judged on others.

``python -m benchmarks.none_of_these BUNDLE`` draws one thing a picture from cut-out photographs
(Debian's tuxpaint-stamps-default); its name is among eight labels in every second picture. A
temperature and a bias are fitted by likelihood on the stamps that may be trained on, and judged on
those that are held out: how often the likeliest label is right, how well none tells pictures of
other things from pictures of a label (area under the curve), and by how much probabilities differ
from shares of right answers (ten bins), as the bundle scores and as fitted. The last line is what a
family's ``TextSpec.none`` would declare.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.anomaly import roc_area
from benchmarks.drawn_things import drawn
from edgevlm.bundle.abilities import require
from edgevlm.bundle.text import SLOT, NoneSpec, TextSpec
from edgevlm.export.nano_data.stamps import Stamp, held_out_stamps, training_stamps
from edgevlm.runtime.model.label_scores import GENERAL, with_none
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.tensors import Float32

LABELS, SIDE = 8, (200, 400)
TEMPERATURES = np.geomspace(0.25, 8, 21)
BIASES = np.linspace(-6, 6, 25)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture's embedding, its labels', and which of them is right (``LABELS`` for none)."""

    embedding: Float32
    labels: Float32
    right: int


def pictures(
    model: Vlm, stamps: Sequence[Stamp], count: int, template: str, seed: int
) -> list[Picture]:
    """Half of them show one of their labels."""
    rng = np.random.default_rng(seed)
    names = sorted({stamp.name for stamp in stamps})
    rows = model.encode_text([template.replace(SLOT, name) for name in names])
    found = []
    for n in range(count):
        stamp = stamps[int(rng.integers(len(stamps)))]
        others = [k for k, name in enumerate(names) if name != stamp.name]
        chosen = [int(k) for k in rng.permutation(others)[:LABELS]]
        right = LABELS
        if n % 2 == 0:
            right = int(rng.integers(LABELS))
            chosen[right] = names.index(stamp.name)
        image = drawn([stamp], rng, SIDE).image_rgb
        embedding = model.encode(image).outputs["embedding"][0]
        found.append(Picture(embedding, rows[chosen], right))
    return found


def scored(
    some: Sequence[Picture], none_embeds: Float32, spec: TextSpec, none: NoneSpec
) -> NDArray[np.float64]:
    """Probabilities, ``(pictures, LABELS + 1)``."""
    rows = [with_none(one.embedding, one.labels, none_embeds, spec, none) for one in some]
    return np.stack(rows).astype(np.float64)


def loss(chances: NDArray[np.float64], right: NDArray[np.int64]) -> float:
    """Mean of -log of the right one's probability."""
    chosen = chances[np.arange(len(right)), right]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fitted(some: Sequence[Picture], none_embeds: Float32, spec: TextSpec) -> NoneSpec:
    """The temperature and bias of a grid under which what is right was likeliest."""
    right = np.array([one.right for one in some])
    tries = [
        GENERAL.model_copy(update={"temperature": float(t), "bias": float(b)})
        for t in TEMPERATURES
        for b in BIASES
    ]
    return min(tries, key=lambda none: loss(scored(some, none_embeds, spec, none), right))


def calibration_error(sure: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins of equal width."""
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [
        abs(sure[bins == n].mean() - hit[bins == n].mean()) * (bins == n).mean()
        for n in range(10)
        if (bins == n).any()
    ]
    return float(sum(gaps))


def row(name: str, chances: NDArray[np.float64], right: NDArray[np.int64]) -> str:
    """One line of the table."""
    known = right < LABELS
    among = chances[known, :LABELS].argmax(1) == right[known]
    hit = chances.argmax(1) == right
    area = roc_area(chances[~known, LABELS], chances[known, LABELS])
    error = calibration_error(chances.max(1), hit)
    return (
        f"{name:12} {100 * among.mean():6.1f} %   {100 * hit.mean():6.1f} %   {area:.3f}   "
        f"{error:.3f}   {loss(chances, right):.3f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=int, default=120, help="to fit on, and to judge by")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    with load(chosen.bundle, threads=chosen.threads) as model:
        require(model.bundle.manifest, "classify")
        spec = model.bundle.manifest.text
        assert spec is not None
        none_embeds = model.encode_text(GENERAL.texts)
        own = pictures(model, training_stamps(), chosen.pictures, spec.template, seed=1)
        others = pictures(model, held_out_stamps(), chosen.pictures, spec.template, seed=2)
    none = fitted(own, none_embeds, spec)
    right = np.array([one.right for one in others])
    print("             among labels  with none  none's area  calibration error  loss")
    print(row("as it is", scored(others, none_embeds, spec, GENERAL), right))
    print(row("fitted", scored(others, none_embeds, spec, none), right))
    print(f"NoneSpec(texts={none.texts}, temperature={none.temperature:.3g}, bias={none.bias:.3g})")


if __name__ == "__main__":
    main()
