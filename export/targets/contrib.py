"""ONNX Runtime's own operators, written out in ONNX's."""

from __future__ import annotations

import numpy as np
import onnx

from edgevlm.errors import ExportError
from edgevlm.export.graph import MS
from edgevlm.export.quantize import QuantBlocks
from edgevlm.export.targets.rewrite import NodeRule, Rewriter, attribute


def _matmul_nbits(r: Rewriter, node: onnx.NodeProto) -> None:
    """Blocks of 4 or 8 bits: unpacked, in the products' type."""
    x, values, scales = node.input[:3]
    bits, size = attribute(node, "bits", 4), attribute(node, "block_size", 32)
    zeros = r.stored.array(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if zeros is not None and zeros.dtype.kind == "f":
        raise ExportError(f"{node.name}: float zero points have no form for TensorRT")
    rows = attribute(node, "N", 0)
    packed = np.asarray(r.stored.array(values)).reshape(rows, -1, size * bits // 8)
    packed_zeros = None if zeros is None else np.asarray(zeros).reshape(rows, -1)
    floats = np.asarray(r.stored.array(scales), np.float32)
    blocks = QuantBlocks.unpacked(bits, size, packed, floats, packed_zeros)
    matrix = blocks.dequantize()[:, : attribute(node, "K", 0)]
    y = r.products.by_floats(r.value(x), matrix.T, r.place(node))
    if len(node.input) > 5 and node.input[5]:
        y = r.graph.node("Add", [y, r.value(node.input[5])], f"{r.place(node)}/bias")
    r.become(node.output[0], y)


def _quick_gelu(r: Rewriter, node: onnx.NodeProto) -> None:
    g, place, x = r.graph, r.place(node), r.value(node.input[0])
    alpha = float(attribute(node, "alpha", 1.702))
    scaled = x
    if alpha != 1.0:
        factor = g.constant(f"quick_gelu.{alpha!r}", np.array(alpha, np.float32))
        scaled = g.node("Mul", [x, factor], f"{place}/scaled")
    r.become(node.output[0], g.node("Mul", [x, g.node("Sigmoid", [scaled], place)], place))


def _gelu(approximate: str) -> NodeRule:
    def write(r: Rewriter, node: onnx.NodeProto) -> None:
        x, place = r.value(node.input[0]), r.place(node)
        if len(node.input) > 1 and node.input[1]:
            x = r.graph.node("Add", [x, r.value(node.input[1])], f"{place}/bias")
        y = r.graph.node("Gelu", [x], f"{place}/gelu", approximate=approximate)
        r.become(node.output[0], y)

    return write


def rms_norm(r: Rewriter, x: str, weight: str, eps: float, place: str) -> str:
    """RMSNorm in primitive operators, float32."""
    g = r.graph
    square = g.node("Mul", [x, x], f"{place}/square")
    axes = g.constant("norm.axes", np.array([-1], np.int64))
    mean = g.node("ReduceMean", [square, axes], place, keepdims=1)
    small = g.constant(f"eps.{eps!r}", np.array(eps, np.float32))
    root = g.node("Sqrt", [g.node("Add", [mean, small], f"{place}/eps")], place)
    return g.node("Mul", [g.node("Div", [x, root], place), weight], f"{place}/weight")


def _simplified(r: Rewriter, node: onnx.NodeProto) -> None:
    x, weight = (r.value(name) for name in node.input[:2])
    eps = float(attribute(node, "epsilon", 1e-5))
    r.become(node.output[0], rms_norm(r, x, weight, eps, r.place(node)))


def _skip(r: Rewriter, node: onnx.NodeProto) -> None:
    """The sum of both inputs (and a bias), normed; the sum is the fourth output."""
    g, place = r.graph, r.place(node)
    simplified = node.op_type.startswith("SkipSimplified")
    x, skip, weight, *rest = (r.value(name) if name else "" for name in node.input)
    total = g.node("Add", [x, skip], f"{place}/sum")
    bias = rest[-1] if rest and len(rest) == (1 if simplified else 2) else ""
    if bias:
        total = g.node("Add", [total, bias], f"{place}/bias")
    eps = float(attribute(node, "epsilon", 1e-5 if simplified else 1e-12))
    if simplified:
        y = rms_norm(r, total, weight, eps, place)
    else:
        inputs = [total, weight, *([rest[0]] if rest and rest[0] else [])]
        y = g.node("LayerNormalization", inputs, place, axis=-1, epsilon=eps)
    r.become(node.output[0], y)
    if len(node.output) > 3 and node.output[3]:
        r.become(node.output[3], total)


CONTRIB: dict[tuple[str, str], NodeRule] = {
    (MS, "MatMulNBits"): _matmul_nbits,
    (MS, "QuickGelu"): _quick_gelu,
    (MS, "Gelu"): _gelu("none"),
    (MS, "BiasGelu"): _gelu("none"),
    (MS, "FastGelu"): _gelu("tanh"),
    ("", "SimplifiedLayerNormalization"): _simplified,
    (MS, "SkipSimplifiedLayerNormalization"): _skip,
    (MS, "SkipLayerNormalization"): _skip,
}
