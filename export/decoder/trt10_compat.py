"""The ``trt10-compat`` lowering: operators that TensorRT 10.3 has, norms and softmax in float32.

The cache is an input that the graph does not change; this call's keys and values go out as
``new.*``, and the caller copies them into the cache behind the call::

    q with past keys ──┐
    q with new keys ───┴── Concat ── mask ── Softmax ── Split ── past values, new values ── Add

A row sees the slots of the cache in front of this call, and of this call the rows up to itself.
"""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.static_cache import TRT10_COMPAT, StaticLowering
from edgevlm.export.decoder.masked_attention import Span, additive, masked_attention
from edgevlm.export.decoder.static_cache import CacheShape, StaticCache
from edgevlm.export.targets.element_types import FLOAT

OPSET, OPSET_INT4, IR_VERSION = 20, 21, 10


class Trt10Compat:
    """Operators of set 20."""

    lowering: StaticLowering = TRT10_COMPAT

    def norm(self, c: StaticCache, x: str, weight: str, place: str) -> str:
        """RMSNorm in primitive operators."""
        g = c.graph
        square = g.node("Mul", [x, x], f"{place}/square")
        axes = g.constant("norm.axes", np.array([-1], np.int64))
        mean = g.node("ReduceMean", [square, axes], place, keepdims=1)
        total = g.node("Add", [mean, c.scalar(c.spec.norm_eps)], f"{place}/eps")
        root = g.node("Sqrt", [total], place)
        scaled = g.node("Div", [x, root], place)
        return g.node("Mul", [scaled, weight], f"{place}/weight")

    def rotate(self, c: StaticCache, x: str, tables: tuple[str, str], place: str) -> str:
        """Rotate half-split pairs.

        Source: RoFormer (Su et al., 2021), equation 34.
        """
        g, half = c.graph, c.spec.head_dim // 2
        cos, sin = (_rows(c, table) for table in tables)
        first, second = f"/{place}/first", f"/{place}/second"
        sizes = g.constant("split.halves", np.array([half, half], np.int64))
        g.node("Split", [x, sizes], place, outputs=[first, second], axis=-1)

        def times(value: str, table: str, name: str) -> str:
            return g.node("Mul", [value, table], f"{place}/{name}")

        near = [times(first, cos, "first_cos"), times(second, sin, "second_sin")]
        far = [times(second, cos, "second_cos"), times(first, sin, "first_sin")]
        turned = [g.node("Sub", near, place), g.node("Add", far, place)]
        return g.node("Concat", turned, place, axis=-1)

    def declare_cache(self, c: StaticCache, layer: int, shape: CacheShape) -> None:
        """The past comes in; the new rows go out."""
        dtype = "float32" if c.kind == FLOAT else "float16"
        new = (shape[0], shape[1], "tokens", shape[3])
        for part in ("key", "value"):
            c.graph.input(f"past_key_values.{layer}.{part}", dtype, shape, "left as it is")
            c.graph.output(f"new.{layer}.{part}", dtype, new, "to be put behind the past")

    def attend(self, c: StaticCache, layer: int, q: str, k: str, v: str) -> str:
        """Look at the past and at the new rows."""
        g, place = c.graph, f"layers.{layer}/attn"
        new = []
        for part, rows in (("key", k), ("value", v)):
            narrow = c.products.narrow(rows, f"{place}/{part}", c.kind)
            name = f"new.{layer}.{part}"
            new.append(g.node("Identity", [narrow], f"{place}/{part}", outputs=[name]))
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        spans = [Span(past[0], past[1], c.capacity), Span(new[0], new[1], None)]
        return masked_attention(c, q, spans, _mask(c, c.window(layer)), place)


def _rows(c: StaticCache, table: str) -> str:
    """The table's rows of this call, ``(1, 1, tokens, head_dim / 2)``."""
    g, name = c.graph, f"/rows/{table}"
    if not g.has(name):
        axis = g.constant("rows.axis", np.array([1], np.int64))
        rows = table
        if c.spec.mrope_section is None:
            rows = g.node("Gather", [table, "positions"], f"rows/{table}", axis=0)
        g.node("Unsqueeze", [rows, axis], f"rows/{table}", outputs=[name])
    return name


def _mask(c: StaticCache, window: int | None) -> str:
    """Added to the scores: ``(1, 1, group * tokens, capacity + tokens)``."""
    g, name = c.graph, f"/mask/{window}"
    if g.has(name):
        return name
    place = name[1:]
    axes = {n: g.constant(f"mask.axes.{n}", np.array([1, n], np.int64)) for n in (2, 3)}
    rows = g.node("Unsqueeze", ["positions", axes[3]], f"{place}/rows")
    columns = g.node("Unsqueeze", ["positions", axes[2]], f"{place}/columns")
    slots = g.constant("mask.slots", np.arange(c.capacity, dtype=np.int64)[None, None, None])
    ends = [g.constant(f"slice.at.{n}", np.array([n], np.int64)) for n in (0, 1)]
    axis = g.constant("slice.axis.rows", np.array([2], np.int64))
    first = g.node("Slice", [rows, *ends, axis], f"{place}/first")
    offsets = g.node("Sub", [rows, first], f"{place}/offsets")
    wide = g.node("Sub", [rows, offsets], f"{place}/wide")  # the first position, once a row
    past = g.node("Less", [slots, wide], f"{place}/past")
    if c.spec.prefix_attention:
        limit = g.node("Unsqueeze", ["visible", axes[3]], f"{place}/visible")
        new = g.node("Less", [columns, limit], f"{place}/new")
    else:
        new = g.node("LessOrEqual", [columns, rows], f"{place}/new")
    if window is not None:
        size = g.constant(f"mask.window.{window}", np.array(window, np.int64))
        oldest = g.node("Sub", [rows, size], f"{place}/oldest")
        near = [
            g.node("Greater", [of, oldest], f"{place}/near/{kind}")
            for kind, of in (("past", slots), ("new", columns))
        ]
        past = g.node("And", [past, near[0]], f"{place}/past")
        new = g.node("And", [new, near[1]], f"{place}/new")
    seen = g.node("Concat", [past, new], f"{place}/seen", axis=-1)
    made = additive(c, seen, place)
    return g.node("Identity", [made], place, outputs=[name])
