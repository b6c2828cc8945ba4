"""Encoders and heads: rewritten from the graphs that a bundle holds."""

from __future__ import annotations

from pathlib import Path

from edgevlm.bundle import Bundle
from edgevlm.bundle.static_cache import ONNX_STD, StaticLowering
from edgevlm.export.decoder import onnx_std
from edgevlm.export.decoder.trt10_compat import IR_VERSION as COMPAT_IR
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.targets.contrib import CONTRIB
from edgevlm.export.targets.element_types import PRODUCTS
from edgevlm.export.targets.fuse import fuse_attention, write_attention
from edgevlm.export.targets.ranges import limits, ranges_of
from edgevlm.export.targets.rewrite import Rewriter
from edgevlm.export.targets.stored_graph import StoredGraph
from edgevlm.export.targets.tables import TABLES
from edgevlm.export.targets.target_graph import TargetGraph
from edgevlm.export.targets.typed import TypedProducts

OLDEST_OPSET = 18  # from there on, axes of reductions are inputs, as our rules write them
NEWEST_OPSET = 20  # what TensorRT 10.3 reads


def float_precision(precision: str) -> str:
    """Of encoders and heads: weight-only quantisation gains nothing over many rows at once."""
    return precision if precision in ("fp32", "bf16") else "fp16"


def float_notes(name: str, stored: str, precision: str) -> tuple[str, ...]:
    """That a graph's matrices are floats, where the bundle or the user has something else."""
    chosen = float_precision(precision)
    if precision in ("int8", "int4"):
        return (f"{name}: products in {chosen}; {precision} is of decoder-only models",)
    return (f"{name}: {stored} weights unpacked to {chosen}",) if stored.startswith("int") else ()


def lower_stored(
    bundle: Bundle, name: str, lowering: StaticLowering, precision: str, into: Path
) -> TargetGraph:
    """Write one graph, its types stated.

    Args:
        bundle: that holds it.
        name: its key in the manifest.
        lowering: of the build; with ``onnx-std`` attention without a mask is one operator.
        precision: of the build.
        into: an existing folder.

    Raises:
        ExportError: an operator or a free dimension that has no form.
        BundleCorrupt: a weight is missing.
    """
    manifest = bundle.manifest
    entry = manifest.graphs[name]
    stored = StoredGraph(bundle, entry)
    stored.check_opset(OLDEST_OPSET, NEWEST_OPSET)
    chosen = float_precision(precision)
    path = into / f"{name.replace('/', '-')}.onnx"
    opset, ir_version, rules = stored.opset, COMPAT_IR, {**CONTRIB, **TABLES}
    if lowering == ONNX_STD and fuse_attention(stored):
        opset, ir_version = onnx_std.OPSET, onnx_std.IR_VERSION
        rules = {**rules, ("", "Attention"): write_attention}
    with DataFile(into / f"{path.name}.data") as data:
        graph = GraphBuilder(name.replace("/", "-"), data, opset, ir_version)
        for tensor in entry.inputs:
            graph.input(tensor.name, tensor.dtype, tensor.shape, tensor.meaning)
        products = TypedProducts(graph, PRODUCTS[chosen])
        Rewriter(stored, graph, products, rules).run(entry.outputs)
        graph.save(path)
    notes = [*float_notes(name, entry.precision, precision)]
    if name == "vision" and manifest.image is not None:
        notes += limits(manifest.image)
    return TargetGraph(
        name=name,
        path=path,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        aliases={},
        ranges=ranges_of(name, graph.inputs, manifest),
        precision=chosen,
        lowering=lowering,
        notes=tuple(notes),
    )
