"""Patches held against a bank of patches: one product, and the best of every row.

The bank is an input. Where ``radius`` is small, a patch is held only against those seen at the
same place of other pictures, as under a camera that does not move.

Source: PatchCore (Roth et al., 2022), section 3.3, with cosines for distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevlm.bundle.matching import EMPTY, GRAPH, MatchSpec
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.vision_part import TowerOutputs, VisionGraph


@dataclass(frozen=True, slots=True)
class MatchHead:
    """The graph ``heads/match``, which has no weights: in float32 whatever the others get."""

    spec: MatchSpec

    @property
    def steps(self) -> int:
        """Told once."""
        return 1

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:  # noqa: ARG002
        """Write the graph."""
        return VisionGraph(self._build, GRAPH).lower(
            folder, PrecisionPlan(default="fp32"), progress
        )

    def _build(self, g: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:  # noqa: ARG002
        spec = self.spec
        rows = spec.capacity
        patches = g.input("patches", "float32", ("patches", spec.width), "of length 1")
        places = g.input("places", "float32", ("patches", 2), "row and column")
        bank = g.input("bank", "float32", (rows, spec.width), "of length 1, then zeros")
        bank_places = g.input(
            "bank_places", "float32", (rows, 2), "row and column where it was seen"
        )
        penalties = g.input("bank_penalties", "float32", (rows,), f"0, or {EMPTY:g} behind it")
        radius = g.input("radius", "float32", (1,), "rows and columns away")
        turned = g.node("Transpose", [bank], "bank", perm=[1, 0])
        cosines = g.node("MatMul", [patches, turned], "cosines")
        cosines = g.node("Add", [cosines, penalties], "cosines")
        cosines = g.node("Add", [cosines, _far(g, places, bank_places, radius)], "cosines/near")
        axis = g.constant("axis.1", np.array([1], np.int64))
        best = g.node("ReduceMax", [cosines, axis], "best", keepdims=0)
        nearest = g.node("ArgMax", [cosines], "nearest", axis=1, keepdims=0)
        g.node("Identity", [best], "similarity", outputs=["similarity"])
        g.node("Identity", [nearest], "nearest", outputs=["nearest"])
        g.output("similarity", "float32", ("patches",), "cosine with the most similar patch")
        g.output("nearest", "int64", ("patches",), "its place in the bank")
        return TowerOutputs()


def _far(g: GraphBuilder, places: str, bank_places: str, radius: str) -> str:
    """``EMPTY`` for a patch of the bank that was seen further away, float32 ``(patches, bank)``."""
    last, first = (g.constant(f"axis.{n}", np.array([n], np.int64)) for n in (1, 0))
    zero = g.constant("zero", np.float32(0))
    empty = g.constant("empty", np.float32(EMPTY))
    apart = []
    for n, name in enumerate(("row", "column")):
        index = g.constant(f"index.{name}", np.array(n, np.int64))
        own = g.node("Gather", [places, index], f"near/{name}/own", axis=1)
        other = g.node("Gather", [bank_places, index], f"near/{name}/bank", axis=1)
        own = g.node("Unsqueeze", [own, last], f"near/{name}/own")
        other = g.node("Unsqueeze", [other, first], f"near/{name}/bank")
        apart.append(g.node("Abs", [g.node("Sub", [own, other], f"near/{name}")], f"near/{name}"))
    further = g.node("Greater", [g.node("Max", apart, "near"), radius], "near")
    return g.node("Where", [further, empty, zero], "near")
