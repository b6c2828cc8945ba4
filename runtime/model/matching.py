"""Patches of a picture held against a bank of patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle import Bundle
from edgevlm.bundle.abilities import require
from edgevlm.bundle.matching import EMPTY, GRAPH, PATCHES_AT_ONCE, MatchSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Patches, and where each was seen.

    Args:
        features: float32 ``(n, width)``, each of length 1.
        places: int64 ``(n, 2)``, row and column over the encoder's input.
    """

    features: Float32
    places: NDArray[np.int64]

    def __len__(self) -> int:
        """How many."""
        return len(self.features)

    def chosen(self, which: Array | slice) -> Patches:
        """Some of them, by a mask, by their numbers, or a run of them."""
        return Patches(features=self.features[which], places=self.places[which])


def joined(parts: list[Patches]) -> Patches:
    """All of them, one behind the other."""
    return Patches(
        features=np.concatenate([p.features for p in parts]),
        places=np.concatenate([p.places for p in parts]),
    )


class Matcher:
    """The bundle's head that holds patches against a bank, loaded.

    Args:
        bundle: the bundle.
        backend: loads the graph.

    Raises:
        ContractError: the bundle has no such head.
        BackendError: the graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        require(manifest, "match")
        assert manifest.matching is not None
        self.spec: MatchSpec = manifest.matching
        self._graph: Graph = backend.load(bundle.path(manifest.graphs[GRAPH].file))
        self._bank: tuple[Patches, dict[str, Array]] | None = None

    def patches(self, outputs: dict[str, Array]) -> Patches:
        """All patches of a picture, from what the vision encoder gave for it."""
        places = np.indices((self.spec.rows, self.spec.columns)).reshape(2, -1).T
        return Patches(features=outputs["patches"], places=np.ascontiguousarray(places))

    def match(
        self, patches: Patches, bank: Patches, radius: float = np.inf
    ) -> tuple[Float32, NDArray[np.int64]]:
        """The most similar patch of a bank for every patch.

        Args:
            patches: any number.
            bank: at least one; more than the head's capacity go through it in turn.
            radius: rows and columns that a patch of the bank may have been seen away.

        Returns:
            float32 ``(n)``, cosines, below -1 where nothing was near enough, and int64 ``(n)``,
            places in the bank; there they are -1.

        Raises:
            ContractError: an empty bank, or one of another width.
        """
        size = self.spec.capacity
        if len(bank) <= size:
            return self._match(patches, bank, radius)
        similarity = np.full(len(patches), -np.inf, np.float32)
        nearest = np.zeros(len(patches), np.int64)
        for first in range(0, len(bank), size):
            some, where = self._match(patches, bank.chosen(slice(first, first + size)), radius)
            better = some > similarity
            similarity[better] = some[better]
            nearest[better] = np.where(where[better] < 0, -1, first + where[better])
        return similarity, nearest

    def _match(
        self, patches: Patches, bank: Patches, radius: float
    ) -> tuple[Float32, NDArray[np.int64]]:
        feeds = self._feeds(bank) | {"radius": np.array([radius], np.float32)}
        parts = []
        for n in range(0, len(patches), PATCHES_AT_ONCE):
            some = slice(n, n + PATCHES_AT_ONCE)
            places = patches.places[some].astype(np.float32)
            parts.append(
                self._graph.run({"patches": patches.features[some], "places": places, **feeds})
            )
        similarity, nearest = (np.concatenate([p[k] for p in parts]) for k in _OUTPUTS)
        nearest[similarity < -1] = -1
        return similarity, nearest

    def _feeds(self, bank: Patches) -> dict[str, Array]:
        """The bank, filled up; the last one is kept, as a stream asks for the same."""
        if self._bank is not None and self._bank[0] is bank:
            return self._bank[1]
        spec, count = self.spec, len(bank)
        if not count or bank.features.shape[1] != spec.width:
            raise ContractError(
                f"a bank of {count} patches of {bank.features.shape[1]} features; this bundle "
                f"takes some of {spec.width}"
            )
        features = np.zeros((spec.capacity, spec.width), np.float32)
        places = np.zeros((spec.capacity, 2), np.float32)
        penalties = np.full(spec.capacity, EMPTY, np.float32)
        features[:count], places[:count], penalties[:count] = bank.features, bank.places, 0
        feeds: dict[str, Array] = {
            "bank": features,
            "bank_places": places,
            "bank_penalties": penalties,
        }
        self._bank = bank, feeds
        return feeds

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._graph.close()


_OUTPUTS = ("similarity", "nearest")
