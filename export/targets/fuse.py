"""Attention that a stored graph has in pieces, as one operator: TensorRT has a kernel for it.

The pieces are those of ``TowerWriter.attention``, without a mask::

    q ── MatMul ── Softmax ── MatMul ── out          q ┐
    k ── Transpose ┘   v ───────┘              =>    k ┼── Attention ── out
                                                     v ┘

In pieces, the float32 softmax between two products of half precision keeps TensorRT from finding
its fused kernel, which computes the softmax in float32 inside.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper

from edgevlm.export.targets.rewrite import Rewriter, attribute
from edgevlm.export.targets.stored_graph import StoredGraph

WIDTH_STEP = 8  # of heads; others have no kernel
KEYS = [0, 1, 3, 2]


def fuse_attention(stored: StoredGraph) -> int:
    """Put one ``Attention`` in the place of its pieces, and say how often.

    Args:
        stored: whose nodes change.
    """
    made = {name: node for node in stored.nodes for name in node.output}
    readers = Counter(name for node in stored.nodes for name in node.input)
    widths = stored.last_dimensions()
    found = 0
    for at, node in enumerate(stored.nodes):
        pieces = _pieces(node, made, readers)
        if pieces is None or (widths.get(pieces[0]) or 1) % WIDTH_STEP:
            continue
        name = f"{node.name.rpartition('/')[0]}/Attention"
        stored.nodes[at] = helper.make_node(
            "Attention", pieces, list(node.output), name=name, scale=1.0
        )
        found += 1
    return found


def _pieces(
    last: onnx.NodeProto, made: dict[str, onnx.NodeProto], readers: Counter[str]
) -> list[str] | None:
    """Queries, keys and values of the attention that ends with this node."""

    def before(node: onnx.NodeProto | None, which: int, op: str) -> onnx.NodeProto | None:
        if node is None:
            return None
        name = node.input[which]
        found = made.get(name)
        fits = found is not None and found.op_type == op and not found.domain
        return found if fits and readers[name] == 1 else None

    if last.op_type != "MatMul":
        return None
    softmax = before(last, 0, "Softmax")
    scores = before(softmax, 0, "MatMul")
    turned = before(scores, 1, "Transpose")
    if softmax is None or scores is None or turned is None:
        return None
    if attribute(softmax, "axis", -1) not in (-1, 3) or attribute(turned, "perm", []) != KEYS:
        return None
    return [scores.input[0], turned.input[0], last.input[1]]


def write_attention(r: Rewriter, node: onnx.NodeProto) -> None:
    """The operator over operands of the products' type, whose scale is in the queries."""
    place = r.place(node)
    inputs = [
        r.products.narrow(r.value(name), f"{place}/{part}")
        for part, name in zip("qkv", node.input, strict=True)
    ]
    y = r.graph.node("Attention", inputs, place, scale=1.0)
    r.become(node.output[0], r.products.widen(y, place))
