"""From an encoder's rows to one embedding."""

from __future__ import annotations

import numpy as np

from edgevlm.export.towers.writer import Activation, TowerWriter


def unit_length(w: TowerWriter, x: str, place: str) -> str:
    """Rows of length 1: ``x / |x|`` over the last axis, which is kept."""
    length = w.node("ReduceL2", [x, w.ints(-1)], place, keepdims=1)
    return w.node("Div", [x, length], place)


def row(w: TowerWriter, x: str, index: int, place: str) -> str:
    """One row of every picture or text: ``(batch, rows, width)`` to ``(batch, width)``."""
    number = w.graph.constant(f"row.{index}", np.array(index, np.int64))
    return w.node("Gather", [x, number], place, axis=1)


def attention_pool(
    w: TowerWriter, x: str, *, heads: int, eps: float, activation: Activation, place: str = "head"
) -> str:
    """A learned query looks at every row, and an MLP refines what it saw.

    The query is the same for every picture, so its projection is computed here. The weights are
    ``probe``, ``attention.in_proj_weight`` and ``in_proj_bias`` (query, key and value stacked),
    ``attention.key_value`` (the lower two thirds of them, as a linear layer),
    ``attention.out_proj``, ``layernorm`` and ``mlp`` under ``head``.

    Args:
        w: writer over the tower's weights.
        x: float32 ``(batch, rows, width)``.
        heads: of the attention.
        eps: of the norm.
        activation: of the MLP.
        place: where the nodes sit.

    Returns:
        float32 ``(batch, width)``.

    Source: Set Transformer (Lee et al., 2019), section 3.2, "Pooling by Multihead Attention".
    """
    probe = w.source.get("head.probe").reshape(-1)
    packed, offset = (w.source.get(f"head.attention.in_proj_{kind}") for kind in ("weight", "bias"))
    width = len(probe)
    query = packed[:width].astype(np.float64) @ probe.astype(np.float64) + offset[:width]
    each = width // heads
    q = w.tensor("head.query", query.astype(np.float32).reshape(1, heads, 1, each))
    both = w.linear(x, "head.attention.key_value", f"{place}/key_value")
    key, value = f"/{place}/Split/key", f"/{place}/Split/value"
    w.node("Split", [both, w.ints(width, width)], place, outputs=[key, value], axis=-1)
    k, v = w.heads(key, heads, each, f"{place}/k"), w.heads(value, heads, each, f"{place}/v")
    seen = w.attention(q, k, v, 1.0 / float(np.sqrt(each)), place)
    seen = row(w, w.linear(seen, "head.attention.out_proj", f"{place}/out"), 0, f"{place}/seen")
    normed = w.layer_norm(seen, "head.layernorm", eps, f"{place}/norm")
    up = w.activation(w.linear(normed, "head.mlp.fc1", f"{place}/up"), activation, f"{place}/mlp")
    return w.node("Add", [seen, w.linear(up, "head.mlp.fc2", f"{place}/down")], f"{place}/mlp")
