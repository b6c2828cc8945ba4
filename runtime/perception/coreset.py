"""Few patches that stand for many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.runtime.model.matching import Patches
from edgevlm.tensors import Float32

PROJECTED = 64  # dimensions in which distances are compared
_SEED = 7


def thinned(patches: Patches, count: int) -> Patches:
    """At most ``count`` patches, such that none left out is far from all that are kept.

    Source: PatchCore (Roth et al., 2022), section 3.2, algorithm 1: greedy k-centre over a random
    projection (Sener and Savarese, 2018).
    """
    if len(patches) <= count:
        return patches
    return patches.chosen(_centres(_projected(patches.features), count))


def thinned_by_place(patches: Patches, count: int) -> Patches:
    """Likewise, the same number of patches for every place."""
    if len(patches) <= count:
        return patches
    _, which = np.unique(patches.places, axis=0, return_inverse=True)
    which = which.reshape(-1)
    each = max(1, count // (int(which.max()) + 1))
    kept = []
    for place in range(int(which.max()) + 1):
        members = np.flatnonzero(which == place)
        if len(members) > each:
            members = members[_centres(patches.features[members], each)]
        kept.append(members)
    return patches.chosen(np.sort(np.concatenate(kept))[:count])


def _projected(features: Float32) -> Float32:
    if features.shape[1] <= PROJECTED:
        return features
    drawn = np.random.default_rng(_SEED).normal(size=(features.shape[1], PROJECTED))
    found: Float32 = features @ drawn.astype(np.float32)
    return found


def _centres(points: Float32, count: int) -> NDArray[np.int64]:
    """Numbers of the points that were furthest from those chosen before them, in order."""
    squares = np.einsum("ij,ij->i", points, points)
    chosen = np.empty(count, np.int64)
    at = int(((points - points.mean(0)) ** 2).sum(1).argmin())
    away = np.full(len(points), np.inf, np.float32)
    for n in range(count):
        chosen[n] = at
        away = np.minimum(away, squares - 2 * (points @ points[at]) + squares[at])
        away[at] = -np.inf
        at = int(away.argmax())
    return np.sort(chosen)
