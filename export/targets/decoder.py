"""The decoder of a bundle, lowered once more from the weights that lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.static_cache import (
    CALL_ROWS,
    LOGIT_ROWS,
    ONNX_STD,
    TRT10_COMPAT,
    StaticLowering,
)
from edgevlm.errors import ExportError
from edgevlm.export.decoder import onnx_std, ort_gqa, trt10_compat
from edgevlm.export.decoder.onnx_std import OnnxStd
from edgevlm.export.decoder.static_cache import StaticCache, StaticOps
from edgevlm.export.decoder.static_decoder import StaticWriter, write_static
from edgevlm.export.decoder.trt10_compat import Trt10Compat
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.settings import INT4_EXCEPTIONS
from edgevlm.export.targets.decoder_weights import BundleWeights
from edgevlm.export.targets.element_types import PRODUCTS, cache_type
from edgevlm.export.targets.forms import KEPT, Forms
from edgevlm.export.targets.target_graph import TargetGraph
from edgevlm.export.targets.typed import MATRIX_BYTES, TypedLinears, TypedProducts

NAME = "decoder"
TYPICAL_PROMPT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderTarget:
    """How the decoder is written.

    Args:
        lowering: its operators.
        precision: of the products, or ``kept``.
        matrix_bytes: a larger output head is split.
    """

    lowering: StaticLowering
    precision: str
    matrix_bytes: int = MATRIX_BYTES


def check_decoder(bundle: Bundle) -> DecoderSpec:
    """The spec of a decoder that can be lowered again.

    Raises:
        ExportError: it is an imported graph, whose weights the manifest does not name.
    """
    manifest = bundle.manifest
    entry = manifest.graphs[NAME]
    if manifest.decoder is None or entry.lowering != ort_gqa.LOWERING:
        raise ExportError(
            f"{bundle.root}: its decoder is an imported graph ({entry.lowering}), which cannot be "
            "lowered again; export the checkpoint itself (edgevlm export CHECKPOINT)"
        )
    return manifest.decoder


def lower_decoder(
    bundle: Bundle, target: DecoderTarget, into: Path, progress: Progress
) -> TargetGraph:
    """Write ``decoder.onnx`` and its data.

    Args:
        bundle: to be lowered again.
        target: how.
        into: an existing folder.
        progress: told after every layer.

    Raises:
        ExportError: the decoder is an imported graph.
        BundleCorrupt: a weight is missing.
        ConfigError: a capacity over the sliding window of a model with prefix attention.
    """
    spec = check_decoder(bundle)
    layout = bundle.manifest.language.kv
    compat = target.lowering == TRT10_COMPAT
    ops: StaticOps = Trt10Compat() if compat else OnnxStd()
    source = BundleWeights(bundle, spec)
    plan = PrecisionPlan(default="int4", overrides=dict(INT4_EXCEPTIONS))
    forms = Forms(source, target.precision, per_channel=compat, plan=plan)
    kind = PRODUCTS[target.precision]
    path = into / f"{NAME}.onnx"
    with DataFile(into / f"{NAME}.onnx.data") as data:
        graph = GraphBuilder(NAME, data, *versions(target))
        products = TypedProducts(graph, kind)
        linears = TypedLinears(graph, source, forms, products, target.matrix_bytes)
        cache = StaticCache(
            spec=spec,
            graph=graph,
            products=products,
            capacity=layout.capacity,
            kind=cache_type(kind),
        )
        write_static(StaticWriter(source, linears, ops, cache), progress)
        graph.save(path)
    return TargetGraph(
        name=NAME,
        path=path,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        aliases=aliases_of(graph),
        ranges=_ranges(spec, layout.capacity),
        precision=_named(target.precision, forms),
        lowering=target.lowering,
        notes=(*forms.notes(), *_unverified(target)),
    )


def versions(target: DecoderTarget) -> tuple[int, int]:
    """Operator set and file version."""
    if target.lowering == ONNX_STD:
        return onnx_std.OPSET, onnx_std.IR_VERSION
    quantised = target.precision == "int4"
    return trt10_compat.OPSET_INT4 if quantised else trt10_compat.OPSET, trt10_compat.IR_VERSION


def aliases_of(graph: GraphBuilder) -> dict[str, str]:
    """Which outputs of a decoder share the buffer of an input."""
    outputs = [t.name for t in graph.outputs if t.name.startswith("present.")]
    return {name: f"past_key_values.{name.removeprefix('present.')}" for name in outputs}


def _ranges(spec: DecoderSpec, capacity: int) -> dict[str, tuple[int, int, int]]:
    most = capacity if spec.prefix_attention else min(CALL_ROWS, capacity)
    return {
        "tokens": (1, min(TYPICAL_PROMPT, most), most),
        "rows": (1, 1, min(LOGIT_ROWS, most)),
    }


def _named(precision: str, forms: Forms) -> str:
    """Of a build that keeps what it can: int4 if there are such blocks, else fp16."""
    if precision != KEPT:
        return precision
    return "int4" if 4 in forms.bits else "fp16"


def _unverified(target: DecoderTarget) -> tuple[str, ...]:
    if target.lowering == TRT10_COMPAT and target.precision == "int4":
        return ("int4 by DequantizeLinear-21 is not verified on TensorRT 10.3",)
    return ()
