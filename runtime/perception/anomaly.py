"""What in a picture is unlike every good picture that was shown.

::

    good pictures ─ patches ─┬─ each held against the others: scores ─ limit
                             └─ those that stand for all: the bank
    picture ─ patches ─ 1 - cosine with the nearest of the bank ─ map ─ score, boxes

Source: PatchCore (Roth et al., 2022), section 3, with cosines for distances; the limit is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import BankError, ContractError
from edgevlm.runtime.model.matching import Patches, joined
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.bank import (
    NormalRule,
    checked_patches,
    checked_rule,
    encoder_of,
    packed,
    read_bank,
    write_bank,
)
from edgevlm.runtime.perception.coreset import thinned, thinned_by_place
from edgevlm.runtime.perception.regions import Region, regions
from edgevlm.runtime.perception.seen import Seen, see
from edgevlm.runtime.perception.threshold import limit
from edgevlm.runtime.perception.variations import variations
from edgevlm.tensors import Float32

PICTURES_AT_MOST = 50
FALSE_ALARMS = 0.01
RADIUS = 2.0  # rows and columns that a fixed camera and part may be off
WORST = 3  # patches whose mean is the score: one alone may be noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalBank:
    """Good pictures, as patches that stand for them.

    Args:
        rule: how pictures are judged.
        patches: of length 1.
    """

    rule: NormalRule
    patches: Patches

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            BankError: the place cannot be written.
        """
        write_bank(path, self.rule, dict(packed(self.patches)))

    @classmethod
    def load(cls, path: Path, model: Vlm) -> NormalBank:
        """Read it.

        Raises:
            BankError: missing, damaged, or made with another encoder.
        """
        rule, arrays = read_bank(path)
        found = checked_rule(path, rule, NormalRule, "of good pictures")
        manifest = model.bundle.manifest
        if found.encoder != encoder_of(manifest):
            raise BankError(
                f"{path} was taught with another encoder than that of {manifest.name}: teach it "
                "again with this bundle"
            )
        return cls(rule=found, patches=checked_patches(path, arrays, manifest))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anomaly:
    """How unlike the good pictures one picture is.

    Args:
        score: mean of the ``WORST`` patches, 1 - cosine each, in [0, 2].
        threshold: a good picture stays under it, save for the bank's share of false alarms.
        map: float32 ``(rows, columns)`` over the encoder's input, NaN beside the picture.
        regions: where it is unlike, the worst first; boxes in pixels of the picture.
        seen: the picture's patches.
    """

    score: float
    threshold: float
    map: Float32
    regions: tuple[Region, ...]
    seen: Seen

    @property
    def unlike(self) -> bool:
        """True over the threshold."""
        return self.score > self.threshold


def teach_normal(
    model: Vlm,
    images: Sequence[Any],
    *,
    fixed: bool = False,
    radius: float = RADIUS,
    false_alarms: float = FALSE_ALARMS,
    progress: Callable[[str], None] = lambda _: None,
) -> NormalBank:
    """Learn from good pictures what is to be expected; no weight changes.

    Args:
        model: a bundle with the head ``heads/match``.
        images: 1 to ``PICTURES_AT_MOST`` pictures.
        fixed: camera and part stand still: places are held against the same places only.
        radius: rows and columns of patches that they may be off all the same.
        false_alarms: share of good pictures that may be called unlike, in (0, 1).
        progress: told after every picture.

    Raises:
        ContractError: none or too many pictures, pictures of different sizes though ``fixed``, or
            a bundle without the head.
        ImageError: a picture that cannot be taken.
    """
    if not 1 <= len(images) <= PICTURES_AT_MOST:
        raise ContractError(
            f"{len(images)} good pictures: wanted 1 to {PICTURES_AT_MOST}; more hardly help, "
            "choose those that differ most"
        )
    if not 0 < false_alarms < 1 or not radius >= 0:
        raise ContractError(
            f"false_alarms {false_alarms:g} and radius {radius:g}: wanted a share between 0 and "
            "1, and no negative radius"
        )
    seen: list[Seen] = []
    for number, image in enumerate(images, 1):
        seen.append(see(model, image))
        progress(f"picture {number} of {len(images)}")
    sizes = sorted({one.source for one in seen})
    if fixed and len(sizes) > 1:
        told = ", ".join(f"{w}x{h}" for h, w in sizes)
        raise ContractError(f"pictures of a fixed camera are of one size, got {told}")
    reach = radius if fixed else np.inf
    if len(seen) > 1:
        scores = []
        for n, one in enumerate(seen):
            others = joined([o.patches for k, o in enumerate(seen) if k != n])
            scores.append(_score(_distances(model, one, others, reach)))
            progress(f"held against the others: {n + 1} of {len(seen)}")
    else:
        scores = [
            _score(_distances(model, see(model, changed), seen[0].patches, reach))
            for changed in variations(images[0])
        ]
    together = joined([one.patches for one in seen])
    thin = thinned_by_place if fixed else thinned
    rule = NormalRule(
        encoder=encoder_of(model.bundle.manifest),
        pictures=len(seen),
        size=sizes[0] if fixed else None,
        radius=radius if fixed else None,
        scores=tuple(scores),
        false_alarms=false_alarms,
        threshold=limit(scores, false_alarms),
    )
    return NormalBank(rule=rule, patches=thin(together, model.matcher().spec.capacity))


def anomaly(model: Vlm, image: Any, bank: NormalBank) -> Anomaly:
    """Hold a picture against good ones.

    Args:
        model: the bundle that the bank was taught with.
        image: a picture, as in ``Vlm.ask``, or what ``Vlm.encode`` gave for it.
        bank: from ``teach_normal``.

    Raises:
        ContractError: another size than that of the fixed camera.
        ImageError: a picture that cannot be taken.
    """
    seen = see(model, image)
    rule = bank.rule
    if rule.size is not None and seen.source != tuple(rule.size):
        (height, width), (wanted_height, wanted_width) = seen.source, rule.size
        raise ContractError(
            f"a picture of {width}x{height}; this bank is of a fixed camera with "
            f"{wanted_width}x{wanted_height}"
        )
    reach = np.inf if rule.radius is None else rule.radius
    distances = _distances(model, seen, bank.patches, reach)
    spread = seen.spread(distances)
    return Anomaly(
        score=_score(distances),
        threshold=rule.threshold,
        map=spread,
        regions=regions(seen, spread, rule.threshold),
        seen=seen,
    )


def _distances(model: Vlm, seen: Seen, bank: Patches, radius: float) -> NDArray[np.float32]:
    similarity, _ = model.matcher().match(seen.patches, bank, radius)
    found: NDArray[np.float32] = np.maximum(1 - similarity, 0).astype(np.float32)
    return found


def _score(distances: NDArray[np.float32]) -> float:
    worst = min(WORST, len(distances))
    return float(np.partition(distances, len(distances) - worst)[-worst:].mean())
