"""The ``onnx-std`` lowering: operators of ONNX alone, the cache updated in place.

For TensorRT from 10.15 on and TensorRT-RTX, which make a KV cache update of TensorScatter and a
fused kernel of Attention::

    k, v ── TensorScatter into past ── present     RMSNormalization, RotaryEmbedding
    q, present, mask ── Attention                  mask = slot <= position (and not out of window)

The mask is explicit: TensorRT's parser drops Attention's ``nonpad_kv_seqlen`` without a word, and
aligns ``is_causal`` to the capacity. It has no softcap either; layers with one are written in
primitive operators over the same cache.
"""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.static_cache import ONNX_STD, StaticLowering
from edgevlm.export.decoder.masked_attention import Span, additive, masked_attention
from edgevlm.export.decoder.static_cache import CacheShape, StaticCache
from edgevlm.export.targets.element_types import FLOAT

OPSET, IR_VERSION = 24, 11


class OnnxStd:
    """Operators of set 24."""

    lowering: StaticLowering = ONNX_STD

    def norm(self, c: StaticCache, x: str, weight: str, place: str) -> str:
        """One RMSNormalization, in float32."""
        return c.graph.node(
            "RMSNormalization", [x, weight], place, axis=-1, epsilon=c.spec.norm_eps
        )

    def rotate(self, c: StaticCache, x: str, tables: tuple[str, str], place: str) -> str:
        """One RotaryEmbedding: its rows by position, or given for every row."""
        given = c.spec.mrope_section is not None
        inputs = [x, *tables] if given else [x, *tables, "positions"]
        return c.graph.node("RotaryEmbedding", inputs, place)

    def declare_cache(self, c: StaticCache, layer: int, shape: CacheShape) -> None:
        """Past and present share one buffer."""
        dtype = "float32" if c.kind == FLOAT else "float16"
        for part in ("key", "value"):
            c.graph.input(f"past_key_values.{layer}.{part}", dtype, shape, "updated in place")
            c.graph.output(f"present.{layer}.{part}", dtype, shape, "the same buffer as its past")

    def attend(self, c: StaticCache, layer: int, q: str, k: str, v: str) -> str:
        """Write the new rows into the cache, and look at all that the mask lets through."""
        g, place, kind = c.graph, f"layers.{layer}/attn", c.kind
        present = []
        for part, rows in (("key", k), ("value", v)):
            name = f"present.{layer}.{part}"
            narrow = c.products.narrow(rows, f"{place}/{part}", kind)
            past = f"past_key_values.{layer}.{part}"
            g.node(
                "TensorScatter",
                [past, narrow, _write_index(c)],
                f"{place}/{part}",
                outputs=[name],
                axis=-2,
            )
            present.append(name)
        key, value = present
        seen = _seen(c, c.window(layer))
        if c.spec.attention_softcap is not None:
            span = Span(key, value, c.capacity)
            mask = f"/mask/{c.window(layer)}/additive"
            if not g.has(mask):
                g.node("Identity", [additive(c, seen, mask[1:])], mask[1:], outputs=[mask])
            return masked_attention(c, q, [span], mask, place)
        query = c.products.narrow(q, f"{place}/query", kind)
        mixed = g.node("Attention", [query, *present, seen], place, scale=1.0)
        return c.products.widen(mixed, place, kind)


def _write_index(c: StaticCache) -> str:
    """The slot of the first row, ``(1,)``."""
    g, name = c.graph, "/write_index"
    if not g.has(name):
        ends = [g.constant(f"slice.at.{n}", np.array([n], np.int64)) for n in (0, 1)]
        axis = g.constant("slice.axis", np.array([1], np.int64))
        first = g.node("Slice", ["positions", *ends, axis], "write_index/first")
        g.node("Squeeze", [first, axis], "write_index/first", outputs=[name])
    return name


def _seen(c: StaticCache, window: int | None) -> str:
    """Which slots each row sees, bool ``(1, 1, tokens, capacity)``."""
    g, name = c.graph, f"/mask/{window}"
    if g.has(name):
        return name
    slots = g.constant("mask.slots", np.arange(c.capacity, dtype=np.int64)[None, None, None])
    axes = g.constant("mask.axes", np.array([1, 3], np.int64))
    place = name[1:]
    if c.spec.prefix_attention:
        limit = g.node("Unsqueeze", ["visible", axes], f"{place}/visible")
        return g.node("Less", [slots, limit], place, outputs=[name])
    rows = g.node("Unsqueeze", ["positions", axes], f"{place}/rows")
    if window is None:
        return g.node("LessOrEqual", [slots, rows], place, outputs=[name])
    before = g.node("LessOrEqual", [slots, rows], place)
    size = g.constant(f"mask.window.{window}", np.array(window, np.int64))
    oldest = g.node("Sub", [rows, size], f"{place}/oldest")
    near = g.node("Greater", [slots, oldest], place)
    return g.node("And", [before, near], place, outputs=[name])
