"""The ``hf-merged`` lowering: standard operators, and a cache that grows with every call.

The names are those of onnx-community's ``decoder_model_merged.onnx``. One layer::

    x ── RMSNorm ── q, k, v ── [RMSNorm] ── rotation by position_ids
                      past k, v ── Concat ── present k, v
    scores = q k' + mask of attention_mask and order ── Softmax ── v ── o_proj ── Add ── x
    x ── RMSNorm ── silu(gate) * up ── down_proj ── Add ── x

Quantised matrices are MatMulNBits, as in the ``_q4`` files of that layout; everything else is
operator set 18.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.decoder.growing import cached_attention, declare_cache, write_mask
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.decoder.writing import DecoderWriter
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.rope import frequencies

LOWERING = "hf-merged"
OPSET, IR_VERSION = 18, 8
SHAPE = frozenset({
    "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
    "vocab_size", "max_positions", "norm_eps", "rope_theta", "rope_scaling", "tied_head",
    "qkv_bias", "o_bias", "mlp_bias", "qk_norm", "query_scale",
})  # fmt: skip


def check_spec(spec: DecoderSpec) -> None:
    """Refuse what this lowering does not write.

    Raises:
        CheckpointError: a decoder that is not like Llama's, with what sets it apart.
    """
    plain = {name: field.default for name, field in DecoderSpec.model_fields.items()}
    if odd := sorted(n for n in plain.keys() - SHAPE if getattr(spec, n) != plain[n]):
        raise CheckpointError(
            f"{LOWERING} writes decoders like Llama's; this one has {', '.join(odd)}: export it "
            "as a bundle (--layout bundle)"
        )


def lower(
    spec: DecoderSpec,
    source: WeightSource,
    plan: PrecisionPlan,
    data: DataFile,
    progress: Progress,
    *,
    ids: bool,
) -> GraphBuilder:
    """Build the decoder graph, writing its weights layer by layer.

    Args:
        spec: shape of the model.
        source: the checkpoint.
        plan: precisions.
        data: external data file of the graph.
        progress: told after every layer.
        ids: the graph takes ``input_ids`` and looks their rows up; else it takes
            ``inputs_embeds``.

    Raises:
        CheckpointError: a decoder that is not like Llama's.
    """
    check_spec(spec)
    graph = GraphBuilder("decoder", data, OPSET, IR_VERSION)
    w = DecoderWriter(spec, source, plan, graph)
    x = _rows(w, plan, ids=ids)
    graph.output("logits", "float32", ("batch_size", "sequence_length", spec.vocab_size))
    declare_cache(w)
    _angles(w)
    write_mask(w)
    for i in range(spec.num_layers):
        x = _layer(w, i, x)
        progress.step(f"layer {i + 1}/{spec.num_layers}")
    _head(w, x, ids=ids)
    progress.step("head")
    return graph


def norm(w: DecoderWriter, x: str, name: str, place: str) -> str:
    """RMSNorm over the last axis, its mean in float32.

    Source: Zhang and Sennrich, 2019, equation 4.
    """
    g, weight = w.graph, w.norm_weight(name)
    wide = x if w.dtype == "float32" else _cast(w, x, TensorProto.FLOAT, f"{place}/wide")
    square = g.node("Mul", [wide, wide], f"{place}/square")
    axis = g.constant("axis.last", np.array([-1], np.int64))
    mean = g.node("ReduceMean", [square, axis], place, keepdims=1)
    eps = g.constant("norm.eps", np.array(w.spec.norm_eps, np.float32))
    root = g.node("Sqrt", [g.node("Add", [mean, eps], f"{place}/eps")], place)
    normed = g.node("Div", [wide, root], place)
    if w.dtype != "float32":
        normed = _cast(w, normed, TensorProto.FLOAT16, f"{place}/narrow")
    return g.node("Mul", [normed, weight], f"{place}/weight")


def _rows(w: DecoderWriter, plan: PrecisionPlan, *, ids: bool) -> str:
    """Declare what comes in, and give the rows in the graph's own type."""
    g, spec = w.graph, w.spec
    if not ids:
        shape = ("batch_size", "sequence_length", spec.hidden_size)
        rows = g.input("inputs_embeds", "float32", shape)
        return rows if w.dtype == "float32" else _cast(w, rows, TensorProto.FLOAT16, "rows")
    g.input("input_ids", "int64", ("batch_size", "sequence_length"))
    table = "embed_tokens.weight"
    head = plan.of("embed_tokens" if spec.tied_head else "lm_head")
    if not spec.tied_head or head in ("int8", "int4"):  # else the head writes it, and shares it
        table = "embedding.table"
        g.weight(table, w.source.get("embed_tokens.weight").astype(w.dtype))
    return g.node("Gather", [table, "input_ids"], "embed_tokens", axis=0)


def _angles(w: DecoderWriter) -> None:
    """``rotary.cos`` and ``rotary.sin`` ``(batch, tokens, 1, head_dim / 2)`` of this call."""
    g = w.graph
    g.input("position_ids", "int64", ("batch_size", "sequence_length"))
    turns = g.constant("rotary.frequencies", frequencies(w.spec).astype(np.float32))
    axes = g.constant("rotary.axes", np.array([2, 3], np.int64))
    positions = _cast(w, "position_ids", TensorProto.FLOAT, "rotary/positions")
    wide = g.node("Unsqueeze", [positions, axes], "rotary/positions")
    angles = g.node("Mul", [wide, turns], "rotary/angles")
    for op, name in (("Cos", "rotary.cos"), ("Sin", "rotary.sin")):
        value = g.node(op, [angles], "rotary")
        kind = TensorProto.FLOAT if w.dtype == "float32" else TensorProto.FLOAT16
        g.node("Cast", [value], name, outputs=[name], to=kind)


def _layer(w: DecoderWriter, i: int, x: str) -> str:
    g, spec, base = w.graph, w.spec, f"layers.{i}"
    normed = norm(w, x, f"{base}.input_layernorm", f"{base}/input_layernorm")
    parts = _heads(w, i, normed)
    mixed = cached_attention(w, i, *parts)
    o_proj = [f"{base}.self_attn.o_proj"]
    out = w.linears.linear(mixed, o_proj, f"{base}/attn/o", bias=spec.o_bias)
    x = g.node("Add", [x, out], f"{base}/attn/residual")
    after = "post_attention_layernorm"
    normed = norm(w, x, f"{base}.{after}", f"{base}/{after}")
    names = [f"{base}.mlp.{p}_proj" for p in ("gate", "up", "down")]
    gate, up = (
        w.linears.linear(normed, [name], f"{base}/mlp/{part}", bias=spec.mlp_bias)
        for name, part in zip(names, ("gate", "up"), strict=False)
    )
    sigmoid = g.node("Sigmoid", [gate], f"{base}/mlp")
    active = g.node("Mul", [gate, sigmoid], f"{base}/mlp/silu")
    product = g.node("Mul", [active, up], f"{base}/mlp/product")
    down = w.linears.linear(product, names[2:], f"{base}/mlp/down", bias=spec.mlp_bias)
    return g.node("Add", [x, down], f"{base}/mlp/residual")


def _heads(w: DecoderWriter, i: int, x: str) -> list[str]:
    """Rotated queries and keys, and values: ``(batch, tokens, heads, head_dim)``."""
    g, spec = w.graph, w.spec
    parts = []
    for part in "qkv":
        base, place = f"layers.{i}.self_attn.{part}", f"layers.{i}/attn/{part}"
        y = w.linears.linear(x, [f"{base}_proj"], place, bias=spec.qkv_bias)
        count = spec.num_heads if part == "q" else spec.num_kv_heads
        shape = g.constant(f"shape.heads.{count}", np.array([0, 0, count, spec.head_dim]))
        y = g.node("Reshape", [y, shape], f"{place}/heads")
        if part != "v":
            y = norm(w, y, f"{base}_norm", f"{place}/norm") if spec.qk_norm else y
            y = _rotated(w, y, f"{place}/rotary")
        parts.append(y)
    return parts


def _rotated(w: DecoderWriter, x: str, place: str) -> str:
    """Rotate half-split pairs.

    Source: RoFormer (Su et al., 2021), equation 34.
    """
    g, half = w.graph, w.spec.head_dim // 2
    first, second = f"/{place}/first", f"/{place}/second"
    sizes = g.constant("split.halves", np.array([half, half], np.int64))
    g.node("Split", [x, sizes], place, outputs=[first, second], axis=-1)

    def times(value: str, table: str, name: str) -> str:
        return g.node("Mul", [value, f"rotary.{table}"], f"{place}/{name}")

    near = [times(first, "cos", "first_cos"), times(second, "sin", "second_sin")]
    far = [times(second, "cos", "second_cos"), times(first, "sin", "first_sin")]
    turned = [g.node("Sub", near, place), g.node("Add", far, place)]
    return g.node("Concat", turned, place, axis=-1)


def _head(w: DecoderWriter, x: str, *, ids: bool) -> None:
    g, spec = w.graph, w.spec
    normed = norm(w, x, "norm", "norm")
    name = "embed_tokens" if spec.tied_head else "lm_head"
    shared = ids and spec.tied_head
    if shared:
        flat = g.constant("shape.flat", np.array([-1, spec.hidden_size], np.int64))
        normed = g.node("Reshape", [normed, flat], "lm_head/flat")
    logits = w.linears.linear(normed, [name], name, rows_first=shared)
    if shared:
        size = g.node("Shape", ["position_ids"], "lm_head/size")
        width = g.constant("shape.vocab", np.array([spec.vocab_size], np.int64))
        shape = g.node("Concat", [size, width], "lm_head/shape", axis=0)
        logits = g.node("Reshape", [logits, shape], "lm_head/rows")
    g.node("Cast", [logits], "logits", outputs=["logits"], to=TensorProto.FLOAT)


def _cast(w: DecoderWriter, x: str, kind: int, place: str) -> str:
    return w.graph.node("Cast", [x], place, to=kind)
