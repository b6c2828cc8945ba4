"""An encoder or a head as one part of a model: such as ``vision.onnx`` and its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgevlm.bundle.manifest import GraphEntry, Precision, WeightEntry
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerOutputs:
    """What a tower writer did, for the manifest.

    Args:
        weights: where each weight lies.
        exceptions: weights kept in another precision: name -> precision.
    """

    weights: Mapping[str, WeightEntry] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VisionGraph:
    """Writes a graph such as ``vision.onnx`` by calling a tower writer on an empty one.

    Args:
        build: declares inputs and outputs, and writes every node.
        name: of the graph and its files, such as ``heads/mask``.
    """

    build: Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]
    name: str = "vision"

    @property
    def steps(self) -> int:
        """Told once."""
        return 1

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write the graph."""
        chosen = tower_plan(plan, self.name)
        path = folder / f"{self.name}.onnx"
        path.parent.mkdir(exist_ok=True)
        with DataFile(folder / f"{self.name}.onnx.data", f"{self.name}.onnx.data") as data:
            graph = GraphBuilder(self.name, data)
            written = self.build(graph, chosen)
            graph.save(path)
        progress.step(f"{self.name} graph")
        entry = GraphEntry(
            file=f"{self.name}.onnx",
            lowering="onnx",
            opset=graph.opset,
            precision=chosen.default,
            exceptions=dict(written.exceptions),
            inputs=tuple(graph.inputs),
            outputs=tuple(graph.outputs),
        )
        weights = {f"{self.name}.{name}": place for name, place in written.weights.items()}
        return Lowered({self.name: entry}, weights)


def tower_plan(plan: PrecisionPlan, name: str = "vision") -> PrecisionPlan:
    """The plan of an encoder: 4 bits are for decoders, whose speed is their weights' size."""
    default: Precision = "int8" if plan.default == "int4" else plan.default
    overrides = {k: v for k, v in plan.overrides.items() if k.startswith(f"{name}.")}
    named = {k.removeprefix(f"{name}."): v for k, v in overrides.items()}
    comparison = None if plan.comparison is None else plan.comparison.under(f"{name}.")
    return PrecisionPlan(default=default, overrides=named, comparison=comparison)
