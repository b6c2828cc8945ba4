"""Attention over a cache that comes in, grows by this call's rows, and goes out again."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgevlm.export.decoder.writing import DecoderWriter

MASK = "mask"


def declare_cache(w: DecoderWriter) -> None:
    """Declare ``attention_mask``, and keys and values of every layer."""
    g, spec = w.graph, w.spec
    g.input("attention_mask", "int64", ("batch_size", "total_sequence_length"))
    for i in range(spec.num_layers):
        for part in ("key", "value"):
            before, behind = (
                ("batch_size", spec.num_kv_heads, f"{length}_sequence_length", spec.head_dim)
                for length in ("past", "total")
            )
            g.input(f"past_key_values.{i}.{part}", w.dtype, before)
            g.output(f"present.{i}.{part}", w.dtype, behind)


def write_mask(w: DecoderWriter) -> None:
    """``mask`` ``(batch, 1, 1, tokens, past + tokens)``: 0, or a very negative number.

    A row sees itself and what is before it, unless ``attention_mask`` is 0 there.
    """
    g = w.graph
    total = _length(w, "attention_mask", 1)
    past = _length(w, "past_key_values.0.key", 2)
    one = g.constant("mask.one", np.array(1, np.int64))
    keys = g.node(
        "Range", [g.constant("mask.zero", np.array(0, np.int64)), total, one], "mask/keys"
    )
    rows = g.node("Range", [past, total, one], "mask/rows")
    last = g.constant("mask.last", np.array([1], np.int64))
    column = g.node("Unsqueeze", [rows, last], "mask/rows")
    ordered = g.node("LessOrEqual", [keys, column], "mask/order")
    given = g.node("Cast", ["attention_mask"], "mask/given", to=TensorProto.BOOL)
    axes = g.constant("mask.axes", np.array([1, 2, 3], np.int64))
    there = g.node("Unsqueeze", [given, axes], "mask/given")
    seen = g.node("And", [there, ordered], "mask/seen")
    lowest = np.finfo(np.float32).min if w.dtype == "float32" else -1e4  # a sum stays finite
    g.node("Where", [seen, w.scalar(0.0), w.scalar(float(lowest))], "mask", outputs=[MASK])


def _length(w: DecoderWriter, value: str, axis: int) -> str:
    size = w.graph.node("Shape", [value], f"mask/{value}", start=axis, end=axis + 1)
    first = w.graph.constant("mask.first", np.array([0], np.int64))
    return w.graph.node("Squeeze", [size, first], f"mask/{value}")


def cached_attention(w: DecoderWriter, layer: int, query: str, key: str, value: str) -> str:
    """What a layer attends to, ``(batch, tokens, heads * head_dim)``.

    Args:
        w: the graph being written.
        layer: whose cache it is.
        query: ``(batch, tokens, heads, head_dim)``.
        key: likewise, with the key heads.
        value: likewise.
    """
    g, spec, place = w.graph, w.spec, f"layers.{layer}/attn"
    shared = spec.num_heads // spec.num_kv_heads
    wide = {}
    for name, rows in (("key", key), ("value", value)):
        turned = g.node("Transpose", [rows], f"{place}/{name}", perm=[0, 2, 1, 3])
        both = [f"past_key_values.{layer}.{name}", turned]
        present = f"present.{layer}.{name}"
        g.node("Concat", both, f"{place}/{name}", outputs=[present], axis=2)
        axis = g.constant("heads.axis", np.array([2], np.int64))
        wide[name] = g.node("Unsqueeze", [present, axis], f"{place}/{name}")
    scaled = g.node("Mul", [query, w.scalar(spec.attention_scale)], f"{place}/scaled")
    turned = g.node("Transpose", [scaled], f"{place}/query", perm=[0, 2, 1, 3])
    groups = np.array([0, spec.num_kv_heads, shared, -1, spec.head_dim], np.int64)
    queries = g.node("Reshape", [turned, g.constant("shape.groups", groups)], f"{place}/query")
    keys = g.node("Transpose", [wide["key"]], f"{place}/keys", perm=[0, 1, 2, 4, 3])
    scores = g.node("MatMul", [queries, keys], f"{place}/scores")
    masked = g.node("Add", [scores, MASK], f"{place}/masked")
    weights = g.node("Softmax", [masked], place, axis=-1)
    mixed = g.node("MatMul", [weights, wide["value"]], f"{place}/mixed")
    heads = np.array([0, spec.num_heads, -1, spec.head_dim], np.int64)
    joined = g.node("Reshape", [mixed, g.constant("shape.all_heads", heads)], f"{place}/mixed")
    back = g.node("Transpose", [joined], f"{place}/mixed", perm=[0, 2, 1, 3])
    flat = g.constant("shape.mixed", np.array([0, 0, spec.q_size], np.int64))
    return g.node("Reshape", [back, flat], f"{place}/flat")
