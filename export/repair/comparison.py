"""Linear layers that a graph computes twice: as they are stored, and from the source's weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgevlm.bundle.manifest import Precision

PREFIX = "drift."  # of the outputs that say how far a layer is off
RUNGS: dict[Precision, Precision] = {"int4": "int8", "int8": "fp16", "fp16": "fp32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One linear layer, or several over the same input.

    Args:
        graph: it is in.
        label: its place there.
        names: of its matrices, as a precision plan's overrides call them.
        precision: as it is stored.
        values: in all its matrices.
    """

    graph: str
    label: str
    names: tuple[str, ...]
    precision: Precision
    values: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Collects the layers of graphs that are written to be measured.

    Args:
        prefix: before the names of matrices.
        layers: those written so far.
    """

    prefix: str = ""
    layers: list[Layer] = field(default_factory=list)

    def under(self, prefix: str) -> Comparison:
        """The same collection, for a graph whose plan is found under a prefix."""
        return Comparison(prefix, self.layers)

    def add(
        self, graph: str, label: str, names: list[str], precision: Precision, values: int
    ) -> None:
        """A layer was written twice."""
        keys = tuple(f"{self.prefix}{name}" for name in names)
        self.layers.append(
            Layer(graph=graph, label=label, names=keys, precision=precision, values=values)
        )
