"""Repair of a model that misses its gates: some layers in a higher precision, round by round."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Protocol

from edgevlm.bundle.manifest import REPAIRED, Manifest
from edgevlm.bundle.writer import BundleWriter
from edgevlm.export.model_parts import GraphPart
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.repair.choice import SHARES, Raising
from edgevlm.export.repair.measure import measure
from edgevlm.parity import BackendParity, Certificate, PictureParity

ROUNDS = len(SHARES)
WIDE = "norms, softmax, the residual stream and the cache in fp32"


class Staged(Protocol):
    """What a repair needs of the export that is under way."""

    writer: BundleWriter
    plan: PrecisionPlan

    def parts_of(self, graphs: set[str]) -> list[GraphPart]:
        """The parts that write these graphs."""
        ...

    def manifest(self) -> Manifest:
        """Of the bundle as it is staged."""
        ...

    def again(self, graphs: set[str], plan: PrecisionPlan, progress: Progress) -> None:
        """Write the parts of these graphs anew."""
        ...

    def note(self, graph: str, text: str) -> None:
        """What the manifest says of a graph; the last text stays."""
        ...


class Repair:
    """Finds what drifts most, and raises it within a budget.

    Args:
        staged: the export.
        share: how much each graph that misses a gate may grow, of its data file's size.
    """

    def __init__(self, staged: Staged, share: float) -> None:
        self._staged = staged
        self._share = share
        self._raising: dict[str, Raising] = {}  # by graph
        self._done = 0
        self.outcome = ""

    def round(self, certificate: Certificate, progress: Progress) -> bool:
        """Raise something and write the graphs anew; False if there is nothing to be raised.

        Raises:
            ExportError: the graphs that measure the layers do not run.
        """
        found = suspects(certificate) & self._staged.manifest().graphs.keys()
        graphs = {graph for graph in found if self._staged.parts_of({graph})}
        if self._share <= 0 or self._done >= ROUNDS or not graphs:
            return False
        if self._widened(graphs, progress):
            return True
        if not self._room(graphs):
            return False
        for graph in sorted(graphs - self._raising.keys()):
            self._raising[graph] = self._measured(graph)
            progress.more(1)
            progress.step(f"comparing the layers of {graph}")
        touched = {g for g in sorted(graphs) if self._raising[g].next_round(self._done, {g})}
        if not touched:
            self.outcome = self._figures(graphs)
            return False
        self._done += 1
        plan = self._staged.plan
        raised = {k: v for one in self._raising.values() for k, v in one.overrides().items()}
        kept = {k: v for k, v in plan.overrides.items() if k not in raised}
        self._staged.again(touched, replace(plan, overrides=raised | kept), progress)
        for graph in touched:
            self._staged.note(graph, self._note(graph))
        self.outcome = self._figures(graphs)
        return True

    def _widened(self, graphs: set[str], progress: Progress) -> bool:
        """In a half precision decoder, the residual stream is what overflows and drifts first."""
        plan = self._staged.plan
        entry = self._staged.manifest().graphs.get("decoder")
        halves = entry is not None and entry.inputs[0].dtype == "float16"
        if "decoder" not in graphs or plan.default != "fp16" or plan.wide or not halves:
            return False
        self._done += 1
        self._staged.again({"decoder"}, replace(plan, wide=True), progress)
        self._staged.note("decoder", f"{REPAIRED}{WIDE}")
        self.outcome = f"{WIDE} was not enough"
        return True

    def _room(self, graphs: set[str]) -> bool:
        """Disk for the graphs that measure: each weight as it is, and in float32."""
        root = self._staged.writer.root
        needed = sum(self._size(graph) for graph in graphs - self._raising.keys()) * 8
        free = shutil.disk_usage(root).free
        if needed > free:
            self.outcome = (
                f"no repair was tried: comparing the layers needs {needed / 1e9:.1f} GB of disk "
                f"and {free / 1e9:.1f} GB are free"
            )
        return needed <= free

    def _measured(self, graph: str) -> Raising:
        staged = self._staged
        found = measure(
            staged.writer.root, staged.manifest(), staged.parts_of({graph}), staged.plan
        )
        budget = {graph: self._share * self._size(graph)}
        return Raising(found.layers, found.drift, budget, staged.plan)

    def _size(self, graph: str) -> int:
        data = self._staged.writer.root / f"{graph}.onnx.data"
        return data.stat().st_size if data.is_file() else 0

    def _note(self, graph: str) -> str:
        raising = self._raising[graph]
        kinds = sorted(raising.raised.values())
        counts = ", ".join(f"{kinds.count(k)} in {k}" for k in sorted(set(kinds)))
        grown = 100 * raising.spent[graph] / (raising.budget[graph] / self._share)
        wide = f"{WIDE}; " if self._staged.plan.wide and graph == "decoder" else ""
        return (
            f"{REPAIRED}{wide}the layers that drift most are kept higher ({counts}), "
            f"{grown:.1f} % larger"
        )

    def _figures(self, graphs: set[str]) -> str:
        """What was tried, in the words of an error."""
        raised = sum(len(one.raised) for one in self._raising.values())
        named = ", ".join(sorted(graphs))
        if not any(one.layers for one in self._raising.values()):
            return f"{named} has no layer that could be kept in a higher precision"
        return (
            f"keeping {raised} layers of {named} in a higher precision, within "
            f"{100 * self._share:.0f} % of its size, was not enough"
        )


def suspects(certificate: Certificate) -> set[str]:
    """The graphs whose stages miss a gate; a head's input comes from the encoder."""
    found: set[str] = set()
    for backend in certificate.backends:
        judged: list[BackendParity | PictureParity] = [backend, *backend.pictures]
        for one in judged:
            missed = [stage.stage for stage in one.stages if not stage.passed]
            found |= {stage.partition(".")[0] for stage in missed}
            ends = [end for end in (one.logits, one.greedy) if end is not None]
            if any(not end.passed for end in ends):
                found |= {"decoder", "encoder"}
    if "mask" in found:
        found |= {"heads/mask", "vision"}
    return found
