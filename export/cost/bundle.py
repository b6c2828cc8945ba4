"""The cost sheet of a bundle, from its graphs."""

from __future__ import annotations

from pathlib import Path

from edgevlm.bundle import open_bundle
from edgevlm.bundle.manifest import Manifest, Precision
from edgevlm.cost.sheet import CostSheet, GraphCost, PictureSetting
from edgevlm.export.cost.common import COUNTED, counted, load, parameters, setting, table
from edgevlm.export.model_parts import ExportOptions

IMPORTED = "hf-merged"


def bundle_sheet(path: Path) -> CostSheet:
    """The cost sheet of a bundle, from its graphs.

    Args:
        path: bundle folder or ``.evlm``.

    Raises:
        BundleError: not a bundle, or a damaged one.
        CheckpointError: a graph with an operator that there is no rule for.
    """
    bundle = open_bundle(path, verify="size")
    manifest, stored = bundle.manifest, bundle.manifest.precision
    spec = manifest.decoder or manifest.seq2seq
    graphs = {
        name: counted(name, load(bundle.path(entry.file)), entry, manifest.image, spec)
        for name, entry in manifest.graphs.items()
        if name in COUNTED
    }
    own = {} if spec is None or spec.tied_head else table(spec)
    if any(entry.lowering == IMPORTED for entry in manifest.graphs.values()):
        graphs = {
            name: _as_stored(cost, stored, _data_bytes(manifest, name))
            for name, cost in graphs.items()
        }
        own = {stored: manifest.memory.embedding} if spec is not None else {}
    settings: tuple[PictureSetting, ...] = ()
    if "vision" in graphs:
        entry = manifest.graphs["vision"]
        visual = manifest.visual_tokens
        settings = (setting(manifest.image, graphs["vision"], entry, ExportOptions(), visual),)
    kv = manifest.kv
    itemsize = 2 if kv is not None and kv.dtype == "float16" else 4
    return CostSheet(
        name=manifest.name,
        family=manifest.family,
        stored=stored,
        parameters=parameters(graphs, own),
        settings=settings,
        encoder=graphs.get("encoder"),
        decoder=graphs.get("decoder"),
        embedding=own,
        kv_values_per_token=0 if kv is None else kv.bytes_per_token // itemsize,
        state_values=0 if kv is None else kv.conv_bytes // itemsize,
        capacity=None if kv is None else kv.capacity,
        max_context=0 if spec is None else spec.max_positions,
    )


def _as_stored(cost: GraphCost, stored: Precision, size: int) -> GraphCost:
    """Of an imported graph only what it is, not what it could be."""
    largest = {stored: min(cost.weights.largest["fp32"], size)}
    made = cost.weights.model_copy(update={"total": {stored: size}, "largest": largest})
    return cost.model_copy(update={"weights": made})


def _data_bytes(manifest: Manifest, name: str) -> int:
    return manifest.files[f"{manifest.graphs[name].file}.data"].size
