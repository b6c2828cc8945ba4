"""Attention in primitive operators, over a cache and perhaps further rows, with explicit masks.

Queries that share a key head lie behind each other, so that one product serves them all::

    q (1, heads, tokens, d) ── Reshape ── (1, kv_heads, group * tokens, d)
        ── MatMul with each of the keys ── Concat ── [softcap] ── Add mask ── Softmax
        ── Split ── MatMul with each of the values ── Add ── Reshape back

Keys and values are never joined: that would copy the cache in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.decoder.static_cache import StaticCache

UNSEEN = -1e9  # added to a score; finite, so that no sum becomes NaN
END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Span:
    """Keys and values that lie together, ``(1, kv_heads, length, head_dim)`` in the cache's type.

    ``length`` is None where it is free: the last span only.
    """

    keys: str
    values: str
    length: int | None


def masked_attention(c: StaticCache, q: str, spans: list[Span], mask: str, place: str) -> str:
    """What queries find, float32 ``(1, heads, tokens, head_dim)``.

    Args:
        c: the cache.
        q: float32 ``(1, heads, tokens, head_dim)``, scaled.
        spans: where to look, in the mask's order.
        mask: float32 ``(1, 1, group * tokens, all lengths)``, added to the scores.
        place: where the nodes sit.
    """
    g, spec, kind = c.graph, c.spec, c.kind
    shared = spec.num_heads // spec.num_kv_heads
    grouped = q
    if shared > 1:
        shape = np.array([1, spec.num_kv_heads, -1, spec.head_dim], np.int64)
        grouped = g.node("Reshape", [q, g.constant("shape.grouped", shape)], f"{place}/grouped")
    queries = c.products.narrow(grouped, f"{place}/queries", kind)
    found = []
    for n, span in enumerate(spans):
        at = f"{place}/scores/{n}"
        turned = g.node("Transpose", [span.keys], at, perm=[0, 1, 3, 2])
        found.append(c.products.widen(g.node("MatMul", [queries, turned], at), at, kind))
    scores = found[0] if len(found) == 1 else g.node("Concat", found, f"{place}/scores", axis=-1)
    if spec.attention_softcap is not None:
        scores = c.softcap(scores, spec.attention_softcap, f"{place}/softcap")
    masked = g.node("Add", [scores, mask], f"{place}/masked")
    weights = g.node("Softmax", [masked], place, axis=-1)
    narrow = c.products.narrow(weights, f"{place}/weights", kind)
    mixed, start = "", 0
    for n, span in enumerate(spans):
        at = f"{place}/mixed/{n}"
        part = narrow
        if len(spans) > 1:
            stop = END if span.length is None else start + span.length
            ends = [g.constant(f"slice.at.{e}", np.array([e], np.int64)) for e in (start, stop)]
            last = g.constant("slice.last", np.array([3], np.int64))
            part = g.node("Slice", [narrow, *ends, last], at)
            start = stop
        product = c.products.widen(g.node("MatMul", [part, span.values], at), at, kind)
        mixed = g.node("Add", [mixed, product], f"{place}/mixed") if mixed else product
    if shared == 1:
        return mixed
    shape = np.array([1, spec.num_heads, -1, spec.head_dim], np.int64)
    return g.node("Reshape", [mixed, g.constant("shape.all_heads", shape)], f"{place}/mixed")


def additive(c: StaticCache, seen: str, place: str) -> str:
    """A mask of bools ``(1, 1, tokens, length)`` as ``masked_attention`` takes it."""
    g, spec = c.graph, c.spec
    values = [g.constant(f"mask.{v}", np.array(v, np.float32)) for v in (0.0, UNSEEN)]
    mask = g.node("Where", [seen, *values], place)
    shared = spec.num_heads // spec.num_kv_heads
    return mask if shared == 1 else g.node("Concat", [mask] * shared, place, axis=2)
