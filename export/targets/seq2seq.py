"""The decoder of an encoder-decoder: its stored graph, with its own attention lowered anew.

GroupQueryAttention becomes what the lowering makes of a decoder's attention; the lengths that it
was fed with become ``positions``, which also say which rows of the position table are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.bundle.static_cache import TRT10_COMPAT
from edgevlm.errors import ExportError
from edgevlm.export.decoder import ort_gqa
from edgevlm.export.decoder.onnx_std import OnnxStd
from edgevlm.export.decoder.static_cache import StaticCache, StaticOps
from edgevlm.export.decoder.trt10_compat import Trt10Compat
from edgevlm.export.graph import MS, DataFile, GraphBuilder
from edgevlm.export.targets.contrib import CONTRIB
from edgevlm.export.targets.decoder import NAME, DecoderTarget, aliases_of, versions
from edgevlm.export.targets.element_types import PRODUCTS, cache_type
from edgevlm.export.targets.ranges import ranges_of
from edgevlm.export.targets.rewrite import NodeRule, Rewriter, attribute
from edgevlm.export.targets.stored import NEWEST_OPSET, OLDEST_OPSET, float_notes, float_precision
from edgevlm.export.targets.stored_graph import StoredGraph
from edgevlm.export.targets.target_graph import TargetGraph
from edgevlm.export.targets.typed import TypedProducts

TOKENS = (1, 1, 16)  # an answer is decoded row by row; a draft of some rows is checked at once
LENGTHS = {"seqlens_k", "total_sequence_length"}
WATCHED = {"hidden.first", "hidden.last"}


def lower_seq2seq_decoder(bundle: Bundle, target: DecoderTarget, into: Path) -> TargetGraph:
    """Write ``decoder.onnx`` and its data.

    Args:
        bundle: of an encoder-decoder that this exporter wrote.
        target: how.
        into: an existing folder.

    Raises:
        ExportError: an operator that has no form, or an imported graph.
        BundleCorrupt: a weight is missing.
    """
    manifest = bundle.manifest
    entry, (spec, layout, _) = manifest.graphs[NAME], manifest.language
    if not isinstance(spec, Seq2SeqSpec) or entry.lowering != ort_gqa.LOWERING:
        raise ExportError(f"{bundle.root}: the decoder {entry.lowering} cannot be lowered again")
    stored = StoredGraph(bundle, entry)
    stored.check_opset(OLDEST_OPSET, NEWEST_OPSET)
    chosen = float_precision(target.precision)
    kind = PRODUCTS[chosen]
    ops: StaticOps = Trt10Compat() if target.lowering == TRT10_COMPAT else OnnxStd()
    path = into / f"{NAME}.onnx"
    with DataFile(into / f"{path.name}.data") as data:
        plain = DecoderTarget(lowering=target.lowering, precision=chosen)
        graph = GraphBuilder(NAME, data, *versions(plain))
        products = TypedProducts(graph, kind)
        cache = StaticCache(
            spec=_own_attention(spec),
            graph=graph,
            products=products,
            capacity=layout.capacity,
            kind=cache_type(kind),
        )
        _declare(cache, ops, entry.inputs)
        rules = {**CONTRIB, (MS, "GroupQueryAttention"): _attention(cache, ops)}
        outputs = [
            t for t in entry.outputs if t.name not in WATCHED and not t.name.startswith("present.")
        ]
        rewriter = Rewriter(stored, graph, products, rules)
        _take_positions(rewriter)
        rewriter.run(outputs)
        graph.save(path)
    ranges = ranges_of("decoder", [t for t in graph.inputs if "rows" in t.shape], manifest)
    return TargetGraph(
        name=NAME,
        path=path,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        aliases=aliases_of(graph),
        ranges={"tokens": TOKENS, **ranges},
        precision=chosen,
        lowering=target.lowering,
        notes=float_notes(NAME, entry.precision, target.precision),
    )


def _own_attention(spec: Seq2SeqSpec) -> DecoderSpec:
    """The decoder's attention to its own rows, as a decoder-only model has it."""
    return DecoderSpec(
        hidden_size=spec.hidden_size,
        intermediate_size=spec.decoder_ffn_size,
        num_layers=spec.decoder_layers,
        num_heads=spec.decoder_heads,
        num_kv_heads=spec.decoder_heads,
        head_dim=spec.head_dim,
        vocab_size=spec.vocab_size,
        max_positions=spec.max_positions,
        norm_eps=spec.norm_eps,
        rope_theta=1.0,  # positions are learned
        tied_head=spec.tied_head,
    )


def _declare(c: StaticCache, ops: StaticOps, inputs: Sequence[TensorEntry]) -> None:
    g = c.graph
    for tensor in inputs:
        if tensor.name not in LENGTHS and not tensor.name.startswith("past_key_values."):
            g.input(tensor.name, tensor.dtype, tensor.shape, tensor.meaning)
    g.input("positions", "int64", (1, "tokens"), "cache slot of every row, one behind the other")
    for layer in range(c.spec.num_layers):
        ops.declare_cache(c, layer, (1, c.spec.num_kv_heads, c.capacity, c.spec.head_dim))


def _take_positions(r: Rewriter) -> None:
    """What the stored graph counts up to the cache's length is an input here."""
    axis = r.graph.constant("positions.axis", np.array([0], np.int64))
    for node in r.stored.nodes:
        if node.op_type == "Range" and node.input[1] == "total_sequence_length":
            r.become(node.output[0], r.graph.node("Squeeze", ["positions", axis], "positions"))


def _attention(c: StaticCache, ops: StaticOps) -> NodeRule:
    """GroupQueryAttention of packed queries, keys and values, without rotation."""

    def write(r: Rewriter, node: onnx.NodeProto) -> None:
        g, spec, place = r.graph, c.spec, r.place(node)
        if attribute(node, "do_rotary", 0) or node.input[1]:
            raise ExportError(f"{node.name}: only packed rows without rotation have a form here")
        layer = int(node.input[3].split(".")[1])
        sizes = g.constant("split.own", np.array([spec.q_size] * 3, np.int64))
        parts = [f"/{place}/own/{part}" for part in "qkv"]
        packed = r.value(node.input[0])
        g.node("Split", [packed, sizes], f"{place}/own", outputs=parts, axis=-1)
        shape = np.array([0, 0, spec.num_heads, spec.head_dim], np.int64)
        heads = []
        for part, name in zip(parts, "qkv", strict=True):
            at = f"{place}/own/{name}"
            split = g.node("Reshape", [part, g.constant("shape.own", shape)], at)
            heads.append(g.node("Transpose", [split], at, perm=[0, 2, 1, 3]))
        q, k, v = heads
        scaled = g.node("Mul", [q, c.scalar(float(attribute(node, "scale", 1.0)))], f"{place}/q")
        mixed = ops.attend(c, layer, scaled, k, v)
        back = g.node("Transpose", [mixed], f"{place}/back", perm=[0, 2, 1, 3])
        flat = g.constant("shape.own.flat", np.array([0, 0, spec.q_size], np.int64))
        r.become(node.output[0], g.node("Reshape", [back, flat], f"{place}/back"))

    return write
