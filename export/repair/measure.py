"""Measure how far every layer of some graphs drifts from the source's weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgevlm.bundle.files import MANIFEST, link_or_copy
from edgevlm.bundle.manifest import Manifest, WeightEntry
from edgevlm.export.model_parts import GraphPart
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.reference.child import run_module
from edgevlm.export.repair.comparison import PREFIX, Comparison, Layer

FOLDER = "drift"  # in the temporary bundle, gone again before anything else happens there


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found.

    Args:
        layers: that were written in less than float32.
        drift: of each, by graph and label: squared error over squared output, mean over the probe.
    """

    layers: tuple[Layer, ...]
    drift: Mapping[tuple[str, str], float]


def measure(
    root: Path, manifest: Manifest, parts: Sequence[GraphPart], plan: PrecisionPlan
) -> Measured:
    """Write the parts' graphs once more, each layer beside its source, and run the probe.

    Every layer gets the exact output of the one before it, so that what is measured is its own.

    Args:
        root: the staged bundle, with its probe.
        manifest: of it.
        parts: whose graphs are measured; the others are taken as they are.
        plan: precisions.

    Raises:
        ExportError: the graphs do not run.
    """
    comparison = Comparison()
    folder = root / FOLDER
    folder.mkdir()
    try:
        weights: dict[str, WeightEntry] = dict(manifest.weights)
        for part in parts:
            twice = replace(plan, wide=True, comparison=comparison)
            weights |= part.lower(folder, twice, Progress(part.steps)).weights
        for path in sorted(root.rglob("*")):
            place = folder / path.relative_to(root)
            if path.is_file() and folder not in path.parents and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, place)
        (folder / MANIFEST).unlink()
        text = manifest.model_copy(update={"weights": weights}).model_dump_json()
        (folder / MANIFEST).write_text(text, "utf-8")
        printed = run_module("edgevlm.runtime.model.drift", folder, doing="comparing the layers")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, float] = json.loads(printed)
    drift = {
        (layer.graph, layer.label): found.get(f"{layer.graph}/{PREFIX}{layer.label}", 0.0)
        for layer in comparison.layers
    }
    return Measured(tuple(comparison.layers), drift)
