"""A stored graph once more, in a target's operators and with every type stated.

Nodes are copied one by one. Products get operands in the chosen type (``typed.py``), fused
operators of ONNX Runtime are written out (``contrib.py``), and half precision that a stored graph
has already goes back to float32 first, so that one rule holds for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgevlm.bundle.entries import TensorEntry
from edgevlm.errors import ExportError
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.targets.element_types import FLOAT, write_floats
from edgevlm.export.targets.stored_graph import StoredGraph
from edgevlm.export.targets.typed import TypedProducts
from edgevlm.tensors import Array

ANGLES = {"Sin", "Cos"}  # an angle of half precision is off by whole turns
CAST_AT_ONCE = {"uint8", "float16"}  # TensorRT's layers take no uint8 but in a cast
REFUSED = {"If", "Loop", "Scan", "SequenceMap"}


class NodeRule(Protocol):
    """Writes one node of the stored graph anew."""

    def __call__(self, r: Rewriter, node: onnx.NodeProto) -> None:
        """Write it, and tell ``r`` what its outputs have become."""
        ...


class Rewriter:
    """One stored graph being written anew.

    Args:
        stored: what is read.
        graph: what is written.
        products: casts and products of ``graph``.
        rules: of operators that are not copied, by domain and type.
    """

    def __init__(
        self,
        stored: StoredGraph,
        graph: GraphBuilder,
        products: TypedProducts,
        rules: Mapping[tuple[str, str], NodeRule],
    ) -> None:
        self.stored = stored
        self.graph = graph
        self.products = products
        self._rules = {**PLAIN, **rules}
        self._now: dict[str, str] = {}
        self._floats: set[str] = set()
        self._readers: dict[str, set[str]] = defaultdict(set)

    def run(self, outputs: Iterable[TensorEntry]) -> None:
        """Write every node that an output needs, and declare the outputs.

        Raises:
            ExportError: an operator without a rule, by node and name.
        """
        wanted = list(outputs)
        nodes = self._needed({t.name for t in wanted})
        for node in nodes:
            for name in node.input:
                self._readers[name].add(node.op_type)
        for tensor in self.graph.inputs:
            if tensor.dtype in CAST_AT_ONCE and not tensor.name.startswith("past_key_values."):
                wide = self.graph.node("Cast", [tensor.name], f"in/{tensor.name}", to=FLOAT)
                self.become(tensor.name, wide)
                self._floats.add(wide)
        for node in nodes:
            self._write(node)
        for tensor in wanted:
            self.graph.output(tensor.name, tensor.dtype, tensor.shape, tensor.meaning)
            self._give(tensor)

    def _needed(self, outputs: set[str]) -> list[onnx.NodeProto]:
        needed, kept = set(outputs), []
        for node in reversed(self.stored.nodes):
            if needed & set(node.output) - self._now.keys():
                kept.append(node)
                needed |= set(node.input)
        return kept[::-1]

    def _write(self, node: onnx.NodeProto) -> None:
        rule = self._rules.get((node.domain, node.op_type))
        if rule is not None:
            rule(self, node)
            return
        if node.domain not in ("", "ai.onnx") or node.op_type in REFUSED:
            raise ExportError(
                f"{self.stored.entry.file}: node {node.name or node.output[0]!r} is a "
                f"{node.domain or 'ai.onnx'} {node.op_type}, which has no form for TensorRT; "
                "export the checkpoint itself, whose graphs have one"
            )
        self.copy(node)

    def copy(self, node: onnx.NodeProto) -> None:
        """The node as it is, over what its inputs have become."""
        inputs = [self.value(name) for name in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.graph.node(
            node.op_type, inputs, self.place(node), outputs=list(node.output), **attributes
        )

    def place(self, node: onnx.NodeProto) -> str:
        """Where a node sits: its own place in our graphs, its first output elsewhere."""
        name = node.name if node.name.startswith("/") else f"{node.output[0]}/{node.op_type}"
        return name.strip("/").rpartition("/")[0] or name.strip("/")

    def value(self, name: str) -> str:
        """What a value of the stored graph is here; its weights are placed when first asked for."""
        if name in self._now:
            return self._now[name]
        if self.stored.has(name):
            array = self.stored.array(name)
            if array.dtype in (np.float16, np.float32):
                write_floats(self.graph, name, array, FLOAT)
            else:
                self.graph.weight(name, np.ascontiguousarray(array))
            self._now[name] = name
        return self._now.get(name, name)

    def become(self, name: str, value: str) -> None:
        """From here on, a value of the stored graph is this one."""
        self._now[name] = value

    def widened(self, name: str, value: str, place: str) -> None:
        """A value of the stored graph is this one of the products' type, in float32."""
        wide = self.products.widen(value, place)
        self._floats.add(wide)
        self.become(name, wide)

    def weight(self, name: str) -> Array | None:
        """A float weight of the stored graph, float32; None if the value is computed."""
        if not self.stored.has(name):
            return None
        array = self.stored.array(name)
        return np.asarray(array, np.float32) if array.dtype.kind == "f" else None

    def is_float(self, name: str) -> bool:
        """True if the value is known to be float32 here, whatever it was."""
        return self._now.get(name) in self._floats

    def is_angle(self, name: str) -> bool:
        """True if a sine or cosine is taken of the value."""
        return bool(self._readers[name] & ANGLES)

    def _give(self, tensor: TensorEntry) -> None:
        value = self._now.get(tensor.name, tensor.name)
        if tensor.dtype == "float16" and value != tensor.name:
            half = int(TensorProto.FLOAT16)
            self.graph.node("Cast", [value], tensor.name, outputs=[tensor.name], to=half)
        elif value != tensor.name:
            self.graph.node("Identity", [value], tensor.name, outputs=[tensor.name])


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _cast(r: Rewriter, node: onnx.NodeProto) -> None:
    """To half precision: not at all; products narrow what they need."""
    wanted = attribute(node, "to", FLOAT)
    already = wanted == FLOAT and r.is_float(node.input[0])
    if already or wanted == TensorProto.FLOAT16:
        r.become(node.output[0], r.value(node.input[0]))
    else:
        r.copy(node)


def _identity(r: Rewriter, node: onnx.NodeProto) -> None:
    r.become(node.output[0], r.value(node.input[0]))


def _matmul(r: Rewriter, node: onnx.NodeProto) -> None:
    a, b = node.input
    place, out = r.place(node), node.output[0]
    if r.is_angle(out):
        r.copy(node)
        return
    matrix = r.weight(b)
    if matrix is not None:
        r.become(out, r.products.by_floats(r.value(a), matrix, place))
        return
    r.become(out, r.products.product(r.value(a), r.value(b), place))


def _gemm(r: Rewriter, node: onnx.NodeProto) -> None:
    """``alpha * a @ b' + beta * c`` with a weight for ``b``: a product and a sum."""
    matrix = r.weight(node.input[1])
    scales = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    if matrix is None or scales != (1.0, 1.0) or attribute(node, "transA", 0):
        r.copy(node)
        return
    turned = matrix.T if attribute(node, "transB", 0) else matrix
    y = r.products.by_floats(r.value(node.input[0]), turned, r.place(node))
    if len(node.input) > 2 and node.input[2]:
        y = r.graph.node("Add", [y, r.value(node.input[2])], f"{r.place(node)}/bias")
    r.become(node.output[0], y)


def _convolution(r: Rewriter, node: onnx.NodeProto) -> None:
    kernel = r.weight(node.input[1])
    if kernel is None:
        r.copy(node)
        return
    kind, place = r.products.kind, r.place(node)
    label = f"{place.replace('/', '.')}.{node.op_type}"
    inputs = [
        r.products.narrow(r.value(node.input[0]), place),
        write_floats(r.graph, f"{label}.kernel", kernel, kind),
    ]
    bias = r.weight(node.input[2]) if len(node.input) > 2 else None
    if bias is not None:
        inputs.append(write_floats(r.graph, f"{label}.bias", bias, kind))
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    y = r.graph.node(node.op_type, inputs, place, **attributes)
    r.become(node.output[0], r.products.widen(y, place))


def _constant(r: Rewriter, node: onnx.NodeProto) -> None:
    found = node.attribute[0]
    value = helper.get_attribute_value(found)
    array = onnx.numpy_helper.to_array(value) if found.name == "value" else np.array(value)
    if array.dtype in (np.float16, np.float64):
        array = array.astype(np.float32)
    r.graph.weight(node.output[0], np.ascontiguousarray(array))


PLAIN: dict[tuple[str, str], Callable[[Rewriter, onnx.NodeProto], None]] = {
    ("", "Cast"): _cast,
    ("", "Identity"): _identity,
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Conv"): _convolution,
    ("", "ConvTranspose"): _convolution,
    ("", "Constant"): _constant,
}
