"""The ``ort-gqa`` lowering: ONNX Runtime's fused operators, with the KV cache updated in place.

One layer::

    residual, skip ── SkipSimplifiedLayerNormalization ──┬── residual
                                  │                      │
                          qkv (MatMul | MatMulNBits)     │
                                  │                      │
         past k,v ── GroupQueryAttention ── present k,v  │
                                  │                      │
                          o_proj ── skip                 │
                                  │                      │
                   SkipSimplifiedLayerNormalization ─────┴── residual
                                  │
                      gate_up ── Split
                                  │
                    SiLU(gate) ── Mul ── up
                                  │
                          down_proj ── skip

The caller binds ``present.*`` to the buffers of ``past_key_values.*``. In the last layer
everything behind the attention runs only for the ``num_logits`` last positions: the others have
left their keys and values in the cache and nothing more is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import GraphEntry, WeightEntry
from edgevlm.errors import CheckpointError
from edgevlm.export.decoder.linear import LinearWriter, PrecisionPlan
from edgevlm.export.decoder.rope import rope_tables
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import MS, DataFile, GraphBuilder
from edgevlm.export.progress import Progress

LOWERING = "ort-gqa"
HEAD_STEP = 16  # GroupQueryAttention with a rotation takes heads of whole steps


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredDecoder:
    """What the lowering wrote, for the manifest."""

    graph: GraphEntry
    weights: dict[str, WeightEntry]


class _Lowering:
    """Builds one decoder graph; used once."""

    def __init__(
        self, spec: DecoderSpec, source: WeightSource, plan: PrecisionPlan, graph: GraphBuilder
    ) -> None:
        self.spec = spec
        self.source = source
        self.graph = graph
        self.dtype = plan.float_dtype
        self.linears = LinearWriter(graph, source, plan)

    def norm_weight(self, name: str) -> str:
        self.graph.weight(name, self.source.get(f"{name}.weight").astype(self.dtype))
        return name

    def build(self, capacity: int, progress: Progress) -> None:
        g, spec = self.graph, self.spec
        x = g.input(
            "inputs_embeds", self.dtype, (1, "tokens", spec.hidden_size), "token and visual rows"
        )
        g.input("seqlens_k", "int32", (1,), "tokens in the cache after this call, less one")
        g.input("total_sequence_length", "int32", (), "tokens in the cache after this call")
        g.input("num_logits", "int64", (1,), "logits are given for this many last positions")
        cos, sin = rope_tables(spec, capacity)
        g.weight("rope.cos", cos.astype(self.dtype))
        g.weight("rope.sin", sin.astype(self.dtype))
        cache = (1, spec.num_kv_heads, capacity, spec.head_dim)
        g.output("logits", self.dtype, ("num_logits", spec.vocab_size), "before any sampling")
        for i in range(spec.num_layers):
            for part in ("key", "value"):
                g.input(f"past_key_values.{i}.{part}", self.dtype, cache, "updated in place")
                g.output(f"present.{i}.{part}", self.dtype, cache, "the same buffer as its past")

        residual, skip = x, ""
        for i in range(spec.num_layers):
            residual, skip = self.layer(i, residual, skip)
            progress.step(f"layer {i + 1}/{spec.num_layers}")
        normed, _ = self.skip_norm(residual, skip, "norm", "norm")
        shape = g.constant("shape.rows", np.array([-1, spec.hidden_size], np.int64))
        rows = g.node("Reshape", [normed, shape], "lm_head")
        name = "embed_tokens" if spec.tied_head else "lm_head"
        logits = self.linears.linear(rows, [name], name, rows_first=True)
        g.node("Identity", [logits], "logits", outputs=["logits"])
        progress.step("head")

    def norm(self, x: str, weight: str, place: str) -> str:
        return self.graph.node(
            "SimplifiedLayerNormalization",
            [x, weight],
            place,
            axis=-1,
            epsilon=self.spec.norm_eps,
            stash_type=1,
        )

    def skip_norm(self, residual: str, skip: str, name: str, place: str) -> tuple[str, str]:
        """RMSNorm of ``residual + skip``; returns the normed value and the sum."""
        weight = self.norm_weight(name)
        if not skip:
            return self.norm(residual, weight, place), residual
        op = f"/{place}/SkipSimplifiedLayerNormalization"
        outputs = [f"{op}/output_0", "", "", f"{op}/output_3"]
        self.graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, skip, weight],
            place,
            outputs=outputs,
            domain=MS,
            epsilon=self.spec.norm_eps,
        )
        return outputs[0], outputs[3]

    def layer(self, i: int, residual: str, skip: str) -> tuple[str, str]:
        base = f"layers.{i}"
        normed, residual = self.skip_norm(
            residual, skip, f"{base}.input_layernorm", f"{base}/input_layernorm"
        )
        attended = self.attention(i, normed)
        if i == self.spec.num_layers - 1:
            attended = self.last_positions(attended, f"{base}/attended")
            residual = self.last_positions(residual, f"{base}/residual")
        skip = self.linears.linear(
            attended, [f"{base}.self_attn.o_proj"], f"{base}/attn/o", bias=self.spec.o_bias
        )
        normed, residual = self.skip_norm(
            residual, skip, f"{base}.post_attention_layernorm", f"{base}/post_attention_layernorm"
        )
        return residual, self.mlp(base, normed)

    def last_positions(self, x: str, place: str) -> str:
        g = self.graph
        start = g.node("Neg", ["num_logits"], place)
        end = g.constant("slice.end", np.array([np.iinfo(np.int64).max], np.int64))
        axis = g.constant("slice.axis", np.array([1], np.int64))
        return g.node("Slice", [x, start, end, axis], place)

    def attention(self, i: int, x: str) -> str:
        g, spec = self.graph, self.spec
        base, place = f"layers.{i}.self_attn", f"layers.{i}/attn"
        names = [f"{base}.{p}_proj" for p in "qkv"]
        qkv = self.linears.linear(x, names, f"{place}/qkv", bias=spec.qkv_bias)
        inputs = [qkv, "", ""]
        if spec.qk_norm:
            inputs = self.normed_heads(qkv, base, place)
        past = [f"past_key_values.{i}.{p}" for p in ("key", "value")]
        op = f"/{place}/GroupQueryAttention/output_0"
        return g.node(
            "GroupQueryAttention",
            [*inputs, *past, "seqlens_k", "total_sequence_length", "rope.cos", "rope.sin"],
            place,
            outputs=[op, f"present.{i}.key", f"present.{i}.value"],
            domain=MS,
            num_heads=spec.num_heads,
            kv_num_heads=spec.num_kv_heads,
            scale=spec.attention_scale,
            do_rotary=1,
            rotary_interleaved=0,
        )

    def normed_heads(self, qkv: str, base: str, place: str) -> list[str]:
        """Split, and RMSNorm every query and key head on its own (Qwen3)."""
        g, spec = self.graph, self.spec
        sizes = np.array([spec.q_size, spec.kv_size, spec.kv_size], np.int64)
        parts = [f"/{place}/Split/{p}" for p in "qkv"]
        g.node("Split", [qkv, g.constant("split.qkv", sizes)], place, outputs=parts, axis=-1)
        for n, (part, size) in enumerate((("q", spec.q_size), ("k", spec.kv_size))):
            heads = g.constant(
                f"shape.{part}_heads", np.array([0, 0, size // spec.head_dim, spec.head_dim])
            )
            flat = g.constant(f"shape.{part}_flat", np.array([0, 0, size]))
            where = f"{place}/{part}_norm"
            split = g.node("Reshape", [parts[n], heads], f"{where}/heads")
            weight = self.norm_weight(f"{base}.{part}_norm")
            normed = self.norm(split, weight, where)
            parts[n] = g.node("Reshape", [normed, flat], f"{where}/flat")
        return parts

    def mlp(self, base: str, x: str) -> str:
        g, bias = self.graph, self.spec.mlp_bias
        names = [f"{base}.mlp.{p}_proj" for p in ("gate", "up", "down")]
        place = f"{base}/mlp"
        both = self.linears.linear(x, names[:2], f"{place}/gate_up", bias=bias)
        gate, up = f"/{place}/Split/gate", f"/{place}/Split/up"
        sizes = g.constant("split.gate_up", np.array([self.spec.intermediate_size] * 2, np.int64))
        g.node("Split", [both, sizes], place, outputs=[gate, up], axis=-1)
        if self.dtype == "float32":  # x * sigmoid(x) in one kernel; CPU has it in float32 only
            active = g.node("QuickGelu", [gate], f"{place}/silu", domain=MS, alpha=1.0)
        else:
            sigmoid = g.node("Sigmoid", [gate], f"{place}/silu")
            active = g.node("Mul", [gate, sigmoid], f"{place}/silu")
        product = g.node("Mul", [active, up], f"{place}/product")
        return self.linears.linear(product, names[2:], f"{place}/down", bias=bias)


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
    """
    if spec.head_dim % HEAD_STEP:
        raise CheckpointError(
            f"head_dim {spec.head_dim}: {LOWERING} takes multiples of {HEAD_STEP}"
        )
    graph = GraphBuilder("decoder", data)
    lowering = _Lowering(spec, source, plan, graph)
    lowering.build(capacity, progress)
    entry = GraphEntry(
        file="decoder.onnx",
        lowering=LOWERING,
        opset=graph.opset,
        precision=plan.default,
        exceptions=lowering.linears.exceptions,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
    )
    return graph, LoweredDecoder(graph=entry, weights=lowering.linears.entries)
