"""Floating-point operations, values and memory of one graph at one size, op by op."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from edgevlm.cost.sheet import OpClass
from edgevlm.export.cost.shapes import Shapes, attributes
from edgevlm.tensors import Array

# Operators that only rename what lies in memory, or give sizes.
FREE = frozenset({
    "Constant", "ConstantOfShape", "Flatten", "Identity", "Range", "Reshape", "Shape", "Squeeze",
    "Unsqueeze",
})  # fmt: skip
COPIES = frozenset({
    "Cast", "Concat", "Expand", "Gather", "GatherND", "Pad", "Slice", "Split", "Tile", "Transpose",
})  # fmt: skip
BETWEEN = frozenset({"Add", "Cast", "Div", "Mul", "Reshape", "Sub", "Where"})  # scores, Softmax
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits"})


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight that a product reads. ``inner`` is the axis that is summed over.

    Args:
        name: the place that it belongs to, as in ``layers.0.mlp.down``.
        elements: numbers in it.
        inner: their number along the summed axis.
        kind: of the product; convolutions stay in float.
    """

    name: str
    elements: int
    inner: int
    kind: OpClass


@dataclass(slots=True)
class Counted:
    """One graph at one size.

    Args:
        flops: by class; a multiplication and an addition are two.
        values: numbers read and written besides weights, by class.
        nodes: by class.
        matrices: weights of products.
        others: numbers in all other weights that a call reads whole: norms, biases.
        peak: numbers alive at once.
        fused_peak: the same where attention keeps no scores.
    """

    flops: dict[OpClass, float] = field(default_factory=dict)
    values: dict[OpClass, float] = field(default_factory=dict)
    nodes: dict[OpClass, int] = field(default_factory=dict)
    matrices: tuple[Matrix, ...] = ()
    others: int = 0
    peak: int = 0
    fused_peak: int = 0

    def add(self, kind: OpClass, flops: float, values: float) -> None:
        """One operator."""
        self.flops[kind] = self.flops.get(kind, 0.0) + flops
        self.values[kind] = self.values.get(kind, 0.0) + values
        self.nodes[kind] = self.nodes.get(kind, 0) + 1


def count(
    model: onnx.ModelProto, dims: Mapping[str, int], values: Mapping[str, Array] | None = None
) -> Counted:
    """Walk the graph once.

    Args:
        model: without its external data.
        dims: what each named input dimension is.
        values: of inputs that shapes, or the reach of an attention, depend on.

    Raises:
        CheckpointError: an operator or a dimension that there is no rule for.
    """
    shapes = Shapes(model, dims, values or {})
    weights = {w.name: math.prod(w.dims) for w in model.graph.initializer}
    static = set(weights)
    found, matrices = Counted(), {}
    for node in model.graph.node:
        shapes.infer(node)
        inputs = [name for name in node.input if name]
        if all(name in static or name in shapes.values for name in inputs):
            static.update(node.output)  # known before the call: folded
            continue
        if node.op_type in FREE:
            continue
        moved = sum(shapes.size(n) for n in inputs if n not in static)
        moved += sum(shapes.size(n) for n in node.output if n in shapes)
        kind, flops = _work(node, shapes, static)
        if node.op_type == "GroupQueryAttention":  # the cache is read as far as it is filled
            moved = _attention_values(node, shapes)
        found.add(kind, flops, moved)
        matrix = _matrix(node, shapes, static, kind)
        if matrix is not None:
            matrices[matrix.name] = matrix
    elsewhere = {n for node in model.graph.node for n in (*_held(node, static), *_tables(node))}
    found.matrices = tuple(matrices.values())
    found.others = sum(size for name, size in weights.items() if name not in elsewhere)
    found.peak = _peak(model.graph, shapes, static)
    found.fused_peak = _peak(model.graph, shapes, static, _scores(model.graph, static))
    return found


def _work(node: onnx.NodeProto, shapes: Shapes, static: set[str]) -> tuple[OpClass, float]:
    out = shapes.size(node.output[0])
    if node.op_type in ("MatMul", "MatMulInteger"):
        kind: OpClass = "matmul" if static & set(node.input[:2]) else "attention"
        return kind, 2.0 * out * shapes[node.input[0]][-1]
    if node.op_type == "MatMulNBits":
        return "matmul", 2.0 * out * int(attributes(node)["K"])
    if node.op_type == "Gemm":
        first = shapes[node.input[0]]
        return "matmul", 2.0 * out * first[0 if attributes(node).get("transA") else 1]
    if node.op_type == "Conv":
        return "convolution", 2.0 * out * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return "convolution", 2.0 * shapes.size(node.input[0]) * math.prod(
            shapes[node.input[1]][1:]
        )
    if node.op_type == "GroupQueryAttention":
        return "attention", _attention_flops(node, shapes)
    return "elementwise", 0.0 if node.op_type in COPIES else float(out)


def _reach(node: onnx.NodeProto, shapes: Shapes) -> tuple[int, float]:
    """Rows of one call, and how many positions one of them sees on average."""
    rows = shapes[node.input[0]][1]
    total = int(shapes.values[node.input[6]].reshape(-1)[0])
    asked = attributes(node)
    if not asked.get("causal", 1):
        return rows, float(total)
    window = int(asked.get("local_window_size", -1))
    seen = [total - rows + n + 1 for n in range(rows)]
    return rows, sum(min(n, window) if window > 0 else n for n in seen) / rows


def _attention_flops(node: onnx.NodeProto, shapes: Shapes) -> float:
    rows, seen = _reach(node, shapes)
    return 4.0 * shapes[node.output[0]][-1] * rows * seen


def _attention_values(node: onnx.NodeProto, shapes: Shapes) -> int:
    """What comes in, what goes out, and the keys and values of the positions that are seen."""
    heads, width = shapes[node.input[3]][1], shapes[node.input[3]][3]
    total = int(shapes.values[node.input[6]].reshape(-1)[0])
    rows = sum(shapes.size(n) for n in node.input[:3] if n) + shapes.size(node.output[0])
    return rows + 2 * heads * width * total


def _held(node: onnx.NodeProto, static: set[str]) -> list[str]:
    """The weights of a product: the matrix, its scales and zero points, a convolution's bias."""
    if node.op_type not in PRODUCTS:
        return []
    return [name for name in node.input if name in static]


def _tables(node: onnx.NodeProto) -> list[str]:
    """What a node looks rows up in: no call reads all of it."""
    if node.op_type == "Gather":
        return [node.input[0]]
    return list(node.input[7:]) if node.op_type == "GroupQueryAttention" else []


def _matrix(node: onnx.NodeProto, shapes: Shapes, static: set[str], kind: OpClass) -> Matrix | None:
    held = _held(node, static)
    if not held or kind == "attention":
        return None
    asked = attributes(node)
    name = held[0].removesuffix(".weight").removesuffix(".values")
    if node.op_type == "MatMulNBits":
        return Matrix(name, int(asked["K"]) * int(asked["N"]), int(asked["K"]), kind)
    elements = shapes.size(held[0])
    if kind == "convolution":
        elements = sum(shapes.size(n) for n in held)
    shape = shapes[held[0]]
    inner = shape[-1] if asked.get("transB") else shape[0]
    return Matrix(name, elements, inner, kind)


def _scores(graph: onnx.GraphProto, static: set[str]) -> set[str]:
    """What lies between queries times keys and the product with the values, a Softmax inside."""
    made: dict[str, onnx.NodeProto] = {out: node for node in graph.node for out in node.output}
    found: set[str] = set()
    for node in graph.node:
        if node.op_type != "Softmax":
            continue
        chain, value = {node.output[0]}, node.input[0]
        while value in made and made[value].op_type in BETWEEN:
            chain.add(value)
            value = next((n for n in made[value].input if n not in static), "")
        if value in made and made[value].op_type == "MatMul":
            found |= {*chain, value}
    return found


def _peak(
    graph: onnx.GraphProto, shapes: Shapes, static: set[str], fused: Collection[str] = ()
) -> int:
    """Numbers alive at once if every value is freed behind its last use.

    Values that only rename others share their memory; caches are updated in place; ``fused`` ones
    never leave a kernel.
    """
    owner: dict[str, str] = {}
    last: dict[str, int] = {}
    kept = {entry.name for entry in graph.output}
    for step, node in enumerate(graph.node):
        for name in node.input:
            last[owner.get(name, name)] = step
        if node.op_type in FREE and node.input and node.input[0]:
            owner[node.output[0]] = owner.get(node.input[0], node.input[0])
    size = {e.name: 0 for e in graph.input if e.name.startswith("past")}
    size |= {e.name: shapes.size(e.name) for e in graph.input if e.name not in {*size, *static}}
    free = {*static, *fused}
    alive = peak = sum(size.values())
    for step, node in enumerate(graph.node):
        for name in node.output:
            own = name in shapes and name not in free and owner.get(name, name) == name
            size[name] = 0 if not own or name.startswith("present") else shapes.size(name)
            alive += size[name]
        peak = max(peak, alive)
        for name in {owner.get(n, n) for n in (*node.input, *node.output) if n}:
            if last.get(name, -1) <= step and name not in kept:
                alive -= size.pop(name, 0)
    return peak
