"""Attention of one decoder layer: ONNX Runtime's GroupQueryAttention, its cache in place.

The operator rotates queries and keys itself where it can: heads of whole steps of 16. Other heads
are rotated before it, with the same tables::

    qkv ── Split ── q, k ── [RMSNorm per head] ── [rotation] ──┐
                  └ v ─────────────────────────────────────────┴─ GroupQueryAttention ── present
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from edgevlm.export.decoder.writing import DecoderWriter
from edgevlm.export.graph import MS

HEAD_STEP = 16  # of heads that the operator rotates
HEAD_STEP_AT_ALL = 8


def attention(w: DecoderWriter, layer: int, x: str) -> str:
    """What a layer attends to, ``(1, tokens, heads * head_dim)``, before its output projection."""
    spec = w.spec
    base, place = f"layers.{layer}.self_attn", f"layers.{layer}/attn"
    qkv = _projected(w, x, base, place)
    fused = spec.head_dim % HEAD_STEP == 0
    inputs = [qkv, "", ""]
    if spec.qk_norm or not fused:
        inputs = _split(w, qkv, base, place, layer, rotate=not fused)
    tables = list(rope_names(w, layer)) if fused else []
    past = [f"past_key_values.{layer}.{p}" for p in ("key", "value")]
    special: dict[str, object] = {}
    if spec.slides(layer) and not spec.prefix_attention:
        special["local_window_size"] = spec.sliding_window
    if spec.attention_softcap is not None:
        special["softcap"] = spec.attention_softcap
    if spec.prefix_attention:
        special["causal"] = 0  # a prompt in one call sees all of itself; one token sees the past
    return w.graph.node(
        "GroupQueryAttention",
        [*inputs, *past, "seqlens_k", "total_sequence_length", *tables],
        place,
        outputs=[
            f"/{place}/GroupQueryAttention/output_0",
            f"present.{layer}.key",
            f"present.{layer}.value",
        ],
        domain=MS,
        num_heads=spec.num_heads,
        kv_num_heads=spec.num_kv_heads,
        scale=spec.attention_scale,
        do_rotary=int(fused),
        rotary_interleaved=0,
        **special,
    )


def _projected(w: DecoderWriter, x: str, base: str, place: str) -> str:
    """Queries, keys and values side by side: one product, or one for each precision."""
    names = [f"{base}.{p}_proj" for p in "qkv"]
    runs = [list(run) for _, run in groupby(names, w.plan.of)]
    if len(runs) == 1:
        return w.linears.linear(x, names, f"{place}/qkv", bias=w.spec.qkv_bias)
    parts = []
    for run in runs:
        which = "".join(name.removeprefix(f"{base}.")[0] for name in run)
        parts.append(w.linears.linear(x, run, f"{place}/{which}", bias=w.spec.qkv_bias))
    return w.graph.node("Concat", parts, f"{place}/qkv", axis=-1)


def rope_names(w: DecoderWriter, layer: int) -> tuple[str, str]:
    """The tables of cosines and sines that a layer uses, ``(slots, head_dim / 2)``."""
    if w.spec.mrope_section is not None:
        return "rope_cos", "rope_sin"
    local = w.spec.slides(layer) and w.spec.local_rope_theta is not None
    return ("rope.local.cos", "rope.local.sin") if local else ("rope.cos", "rope.sin")


def _split(
    w: DecoderWriter, qkv: str, base: str, place: str, layer: int, *, rotate: bool
) -> list[str]:
    g, spec = w.graph, w.spec
    sizes = np.array([spec.q_size, spec.kv_size, spec.kv_size], np.int64)
    parts = [f"/{place}/Split/{p}" for p in "qkv"]
    g.node("Split", [qkv, g.constant("split.qkv", sizes)], place, outputs=parts, axis=-1)
    for n, (part, size) in enumerate((("q", spec.q_size), ("k", spec.kv_size))):
        heads = g.constant(
            f"shape.{part}_heads", np.array([0, 0, size // spec.head_dim, spec.head_dim])
        )
        flat = g.constant(f"shape.{part}_flat", np.array([0, 0, size]))
        x = g.node("Reshape", [parts[n], heads], f"{place}/{part}_heads")
        if spec.qk_norm:
            x = w.norm(x, w.norm_weight(f"{base}.{part}_norm"), f"{place}/{part}_norm")
        if rotate:
            x = _rotate(w, x, layer, f"{place}/{part}_rotary")
        parts[n] = g.node("Reshape", [x, flat], f"{place}/{part}_flat")
    return parts


def _rotate(w: DecoderWriter, x: str, layer: int, place: str) -> str:
    """Rotate half-split pairs of ``(1, tokens, heads, head_dim)``.

    Source: RoFormer (Su et al., 2021), equation 34.
    """
    g, half = w.graph, w.spec.head_dim // 2
    cos, sin = (_rows(w, table) for table in rope_names(w, layer))
    sizes = g.constant("split.halves", np.array([half, half], np.int64))
    first, second = f"/{place}/Split/first", f"/{place}/Split/second"
    g.node("Split", [x, sizes], place, outputs=[first, second], axis=-1)
    left = g.node(
        "Sub",
        [
            g.node("Mul", [first, cos], f"{place}/first_cos"),
            g.node("Mul", [second, sin], f"{place}/second_sin"),
        ],
        place,
    )
    right = g.node(
        "Add",
        [
            g.node("Mul", [second, cos], f"{place}/second_cos"),
            g.node("Mul", [first, sin], f"{place}/first_sin"),
        ],
        place,
    )
    return g.node("Concat", [left, right], place, axis=-1)


def _rows(w: DecoderWriter, table: str) -> str:
    """The table's rows of this call's tokens, ``(tokens, 1, head_dim / 2)``."""
    g = w.graph
    made = f"/rows/{table}"
    if g.has(made):
        return made
    positions = "/rows/Range/output_0"
    if not g.has(positions):
        shape = g.node("Shape", ["inputs_embeds"], "rows", start=1, end=2)
        count = g.node("Cast", [shape], "rows/count", to=6)
        axis = g.constant("rows.axis", np.array([0], np.int64))
        tokens = g.node("Squeeze", [count, axis], "rows")
        start = g.node("Sub", ["total_sequence_length", tokens], "rows")
        one = g.constant("rows.one", np.array(1, np.int32))
        g.node("Range", [start, "total_sequence_length", one], "rows", outputs=[positions])
    picked = g.node("Gather", [table, positions], f"rows/{table}", axis=0)
    axis = g.constant("rows.heads", np.array([1], np.int64))
    return g.node("Unsqueeze", [picked, axis], f"rows/{table}", outputs=[made])
