"""The ``ort-gqa`` lowering: ONNX Runtime's fused operators, with the KV cache updated in place.

One layer, whose norms and residual stream are one operator::

    residual, skip ── SkipSimplifiedLayerNormalization ── qkv (MatMul | MatMulNBits)
                                  │
         past k,v ── GroupQueryAttention ── present k,v

The rest is in ``layers.py``. The caller binds ``present.*`` to the buffers of
``past_key_values.*``, and ``present_conv.*`` likewise.

``hidden.first`` and ``hidden.last`` (the residual stream behind the first and the last layer) are
for the certificate; nobody binds them while answering, and then they cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import GraphEntry, WeightEntry
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.decoder.gqa import HEAD_STEP_AT_ALL, attention
from edgevlm.export.decoder.layers import write_layers
from edgevlm.export.decoder.rope import rope_tables
from edgevlm.export.decoder.short_conv import declare_state
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.decoder.writing import DecoderWriter
from edgevlm.export.graph import MS, DataFile, GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress

LOWERING = "ort-gqa"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredDecoder:
    """What the lowering wrote, for the manifest."""

    graph: GraphEntry
    weights: dict[str, WeightEntry]


def lower(
    spec: DecoderSpec,
    source: WeightSource,
    plan: PrecisionPlan,
    data: DataFile,
    capacity: int,
    progress: Progress,
) -> tuple[GraphBuilder, LoweredDecoder]:
    """Build the decoder graph, writing its weights layer by layer.

    Args:
        spec: shape of the model.
        source: the checkpoint.
        plan: precisions.
        data: external data file of the graph.
        capacity: tokens that the KV cache holds.
        progress: told after every layer.

    Returns:
        the graph, to be saved, and what the manifest says of it.

    Raises:
        CheckpointError: a head width that the operators do not take.
        ConfigError: a capacity over the sliding window of a model with prefix attention.
    """
    if spec.head_dim % HEAD_STEP_AT_ALL:
        raise CheckpointError(
            f"head_dim {spec.head_dim}: {LOWERING} takes multiples of {HEAD_STEP_AT_ALL}"
        )
    window = spec.sliding_window if spec.sliding_layers else None
    if spec.prefix_attention and window is not None and capacity > window:
        raise ConfigError(
            f"--max-context {capacity}: a prompt that sees itself in both directions cannot be "
            f"longer than the sliding window of {window}"
        )
    graph = GraphBuilder("decoder", data)
    writer = DecoderWriter(spec, source, plan, graph)
    _declare(writer, capacity)
    write_layers(writer, _Fused(writer), progress)
    entry = GraphEntry(
        file="decoder.onnx",
        lowering=LOWERING,
        opset=graph.opset,
        precision=plan.default,
        exceptions=writer.linears.exceptions | _wider(plan),
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
    )
    return graph, LoweredDecoder(graph=entry, weights=writer.linears.entries)


class _Fused:
    """The dialect of ONNX Runtime."""

    def __init__(self, w: DecoderWriter) -> None:
        self._w = w

    def attention(self, layer: int, x: str) -> str:
        return attention(self._w, layer, x)

    def activation(self, gate: str, place: str) -> str:
        w, g = self._w, self._w.graph
        if w.spec.activation == "gelu_tanh":
            return g.node("Gelu", [gate], f"{place}/gelu", approximate="tanh")
        if w.dtype == "float32":  # x * sigmoid(x) in one kernel; CPU has it in float32 only
            return g.node("QuickGelu", [gate], f"{place}/silu", domain=MS, alpha=1.0)
        sigmoid = g.node("Sigmoid", [gate], f"{place}/silu")
        return g.node("Mul", [gate, sigmoid], f"{place}/silu")

    def wanted_rows(self, x: str, place: str) -> str:
        g = self._w.graph
        start = g.node("Neg", ["num_logits"], place)
        end = g.constant("slice.end", np.array([np.iinfo(np.int64).max], np.int64))
        axis = g.constant("slice.axis", np.array([1], np.int64))
        return g.node("Slice", [x, start, end, axis], place)

    def watch(self, name: str, residual: str, skip: str) -> None:
        g = self._w.graph
        if skip:
            g.node("Add", [residual, skip], name, outputs=[name])
        else:
            g.node("Identity", [residual], name, outputs=[name])


def _wider(plan: PrecisionPlan) -> dict[str, str]:
    """What a half precision graph computes in float32 besides matrices."""
    if plan.default != "fp16" or not plan.wide:
        return {}
    return dict.fromkeys(("norms", "softmax", "residual", "cache"), "fp32")


def _declare(w: DecoderWriter, capacity: int) -> None:
    g, spec, dtype = w.graph, w.spec, w.dtype
    hidden = spec.hidden_size
    g.input("inputs_embeds", dtype, (1, "tokens", hidden), "token and visual rows")
    g.input("seqlens_k", "int32", (1,), "tokens in the cache after this call, less one")
    g.input("total_sequence_length", "int32", (), "tokens in the cache after this call")
    g.input("num_logits", "int64", (1,), "logits are given for this many last positions")
    _rope(w, capacity)
    if spec.deepstack_levels:
        shape = (spec.deepstack_levels, 1, "tokens", hidden)
        g.input("deepstack", dtype, shape, "features added behind the first layers; 0 for text")
    cache = (1, spec.num_kv_heads, capacity, spec.head_dim)
    g.output("logits", dtype, ("num_logits", spec.vocab_size), "before any sampling")
    for i in range(spec.num_layers):
        if spec.convolves(i):
            declare_state(w, i)
            continue
        for part in ("key", "value"):
            g.input(f"past_key_values.{i}.{part}", dtype, cache, "updated in place")
            g.output(f"present.{i}.{part}", dtype, cache, "the same buffer as its past")
    rows = "num_logits" if spec.num_layers == 1 else "tokens"
    g.output("hidden.first", dtype, (1, rows, hidden), "residual stream behind layer 0")
    g.output("hidden.last", dtype, (1, "num_logits", hidden), "behind the last layer")


def _rope(w: DecoderWriter, capacity: int) -> None:
    g, spec = w.graph, w.spec
    if spec.mrope_section is not None:
        shape = (capacity, spec.head_dim // 2)
        for name in ("rope_cos", "rope_sin"):
            g.input(name, w.dtype, shape, "of every cache slot's position")
        return
    kinds = {spec.slides(i) and spec.local_rope_theta is not None for i in spec.attention_layers}
    for local in sorted(kinds):
        cos, sin = rope_tables(spec, capacity, local=local)
        prefix = "rope.local" if local else "rope"
        g.weight(f"{prefix}.cos", cos.astype(w.dtype))
        g.weight(f"{prefix}.sin", sin.astype(w.dtype))
