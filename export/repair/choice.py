"""Which layers of a graph are raised, and how far, within a number of bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevlm.bundle.manifest import Precision
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.repair.comparison import RUNGS, Layer

# What a layer's squared error shrinks by on its way up: a step a 16th as wide or less.
BETTER = 256.0
# Of the budget, spent by the end of each round: most models need little.
SHARES = (0.25, 0.5, 1.0)


@dataclass(slots=True)
class Raising:
    """The layers of one model, raised round by round.

    The layer that drifts most for the bytes it costs goes first: with a whole budget that removes
    the most error.

    Args:
        layers: what can be raised.
        drift: of each, by ``graph/label``: squared error over squared output.
        budget: bytes that each graph may grow.
        plan: says what a value costs in each precision.
    """

    layers: Sequence[Layer]
    drift: Mapping[tuple[str, str], float]
    budget: Mapping[str, float]
    plan: PrecisionPlan
    spent: dict[str, float] = field(default_factory=dict)
    raised: dict[tuple[str, str], Precision] = field(default_factory=dict)

    def next_round(self, number: int, graphs: set[str]) -> set[str]:
        """Raise what this round's share of the budget allows; where that is nothing, more of it.

        Args:
            number: of the round, from 0.
            graphs: those that miss a gate.

        Returns:
            the graphs in which something was raised.
        """
        for share in SHARES[number:]:
            if touched := {graph for graph in graphs if self._raise(graph, share)}:
                return touched
        return set()

    def overrides(self) -> dict[str, Precision]:
        """The raised weights, for a precision plan."""
        return {
            name: self.raised[layer.graph, layer.label]
            for layer in self.layers
            if (layer.graph, layer.label) in self.raised
            for name in layer.names
        }

    def _raise(self, graph: str, share: float) -> bool:
        allowed = share * self.budget.get(graph, 0.0)
        begun = self.spent.get(graph, 0.0)
        while True:
            options = [
                (self._left(layer) / cost, layer, cost)
                for layer in self.layers
                if layer.graph == graph
                and (cost := self._cost(layer)) is not None
                and self.spent.get(graph, 0.0) + cost <= allowed
            ]
            if not options:
                return self.spent.get(graph, 0.0) > begun
            _, layer, cost = max(options, key=lambda option: option[0])
            place = (graph, layer.label)
            self.raised[place] = RUNGS[self._at(layer)]
            self.spent[graph] = self.spent.get(graph, 0.0) + cost

    def _at(self, layer: Layer) -> Precision:
        return self.raised.get((layer.graph, layer.label), layer.precision)

    def _cost(self, layer: Layer) -> float | None:
        """Bytes of the next rung; None on the highest."""
        at = self._at(layer)
        if at not in RUNGS:
            return None
        each = self.plan.bytes_each(RUNGS[at]) - self.plan.bytes_each(at)
        return each * layer.values

    def _left(self, layer: Layer) -> float:
        """Its error as it is now, measured or reckoned."""
        found = self.drift.get((layer.graph, layer.label), 0.0)
        rungs = 0
        at = layer.precision
        while at != self._at(layer):
            at, rungs = RUNGS[at], rungs + 1
        return math.inf if math.isnan(found) else found / BETTER**rungs
