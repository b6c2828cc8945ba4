"""Concrete shapes of every value of a graph, without running it.

Standard operators are asked of onnx, one node at a time; ONNX Runtime's own have rules here. Small
integer values (a Shape, what is computed of it) are followed too, because Reshape needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from edgevlm.errors import CheckpointError
from edgevlm.tensors import Array

Shape = tuple[int, ...]
FOLLOWED = 1 << 14  # elements of a value that is computed and not only measured


class Shapes:
    """Shapes and known values of one graph, filled node by node.

    Args:
        model: the graph.
        dims: what each named dimension of the inputs is.
        values: of inputs that others' shapes depend on.

    Raises:
        CheckpointError: an input has a dimension that ``dims`` does not name.
    """

    def __init__(
        self, model: onnx.ModelProto, dims: Mapping[str, int], values: Mapping[str, Array]
    ) -> None:
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._types: dict[str, onnx.TypeProto] = {}
        self.values: dict[str, Array] = dict(values)
        for weight in model.graph.initializer:
            self._set(weight.name, weight.data_type, tuple(weight.dims))
            inline = weight.data_location != TensorProto.EXTERNAL
            if inline and np.prod(weight.dims) <= FOLLOWED:
                self.values[weight.name] = numpy_helper.to_array(weight)
        for entry in model.graph.input:
            if entry.name not in self._types:
                tensor = entry.type.tensor_type
                shape = tuple(_dim(entry.name, d, dims) for d in tensor.shape.dim)
                self._set(entry.name, tensor.elem_type, shape)

    def __getitem__(self, name: str) -> Shape:
        """A value's shape."""
        return tuple(int(d.dim_value) for d in self._types[name].tensor_type.shape.dim)

    def __contains__(self, name: str) -> bool:
        """True if the shape is known."""
        return name in self._types

    def size(self, name: str) -> int:
        """Elements of a value."""
        return int(np.prod(self[name], dtype=np.int64))

    def _set(self, name: str, dtype: int, shape: Shape) -> None:
        self._types[name] = helper.make_tensor_type_proto(dtype, shape)

    def infer(self, node: onnx.NodeProto) -> None:
        """Take one node's outputs in.

        Raises:
            CheckpointError: an operator without a rule, or a shape that depends on data.
        """
        if self._evaluated(node):
            return
        if node.domain in ("", "ai.onnx") and node.op_type not in CONTRIB:
            found = self._standard(node)
        else:
            found = self._contrib(node)
        for name, made in found.items():
            if not made.HasField("tensor_type") or any(
                not d.HasField("dim_value") for d in made.tensor_type.shape.dim
            ):
                raise CheckpointError(
                    f"{node.op_type} {node.name}: the shape of {name} depends on data, so the "
                    "graph cannot be counted without running it"
                )
            self._types[name] = made

    def _standard(self, node: onnx.NodeProto) -> Mapping[str, onnx.TypeProto]:
        version = self._opsets.get(node.domain, 1)
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        inputs = [name for name in node.input if name]
        data = {n: numpy_helper.from_array(self.values[n], n) for n in inputs if n in self.values}
        try:
            found: Mapping[str, onnx.TypeProto] = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in inputs},
                input_data=data,
                opset_imports=[helper.make_opsetid(d, v) for d, v in self._opsets.items()],
            )
        except (shape_inference.InferenceError, KeyError, ValueError) as exc:
            raise CheckpointError(f"{node.op_type} {node.name}: no shape: {exc}") from exc
        return found

    def _contrib(self, node: onnx.NodeProto) -> Mapping[str, onnx.TypeProto]:
        rule = CONTRIB.get(node.op_type)
        if rule is None:
            raise CheckpointError(
                f"{node.domain}.{node.op_type} ({node.name}): no rule for its shape "
                "(export/cost/shapes.py)"
            )
        dtype = self._types[node.input[0]].tensor_type.elem_type
        shapes = rule(self, node)
        named = [(n, s) for n, s in zip(node.output, shapes, strict=False) if n]
        return {name: helper.make_tensor_type_proto(dtype, shape) for name, shape in named}

    def _evaluated(self, node: onnx.NodeProto) -> bool:
        """Compute a small value of known ones; True if the node is done with."""
        if node.op_type == "Shape" and node.input[0] in self._types:
            asked = attributes(node)
            whole = np.array(self[node.input[0]], np.int64)
            made = [whole[asked.get("start", 0) : asked.get("end", len(whole))]]
        else:
            known = all(name in self.values for name in node.input if name)
            small = sum(self.values[n].size for n in node.input if n in self.values) <= FOLLOWED
            if not known or not small or node.domain not in ("", "ai.onnx"):
                return False
            feeds = {name: self.values[name] for name in node.input if name}
            try:
                made = ReferenceEvaluator(node).run(None, feeds)
            except Exception:  # an operator without a reference: its shape is asked for instead
                return False
        for name, value in zip(node.output, made, strict=True):
            array = np.asarray(value)
            if array.size > FOLLOWED:
                return False
            self.values[name] = array
            self._set(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        return True


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _dim(name: str, dim: onnx.TensorShapeProto.Dimension, dims: Mapping[str, int]) -> int:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if dim.dim_param not in dims:
        raise CheckpointError(
            f"the graph input {name} has a free dimension {dim.dim_param!r}, which the cost sheet "
            f"knows no size for; it knows {', '.join(sorted(dims))}"
        )
    return dims[dim.dim_param]


def _same(shapes: Shapes, node: onnx.NodeProto) -> list[Shape]:
    return [shapes[node.input[0]]]


def _last_axis(attribute: str) -> Callable[[Shapes, onnx.NodeProto], list[Shape]]:
    def rule(shapes: Shapes, node: onnx.NodeProto) -> list[Shape]:
        return [(*shapes[node.input[0]][:-1], int(attributes(node)[attribute]))]

    return rule


def _skip_norm(shapes: Shapes, node: onnx.NodeProto) -> list[Shape]:
    return [shapes[node.input[0]], (0,), (0,), shapes[node.input[0]]]


def _grouped(shapes: Shapes, node: onnx.NodeProto) -> list[Shape]:
    batch, rows, width = shapes[node.input[0]]
    asked = attributes(node)
    past = [shapes[name] for name in node.input[3:5]]
    if len(node.input) > 1 and node.input[1]:
        out = width
    else:
        heads, groups = int(asked["num_heads"]), int(asked["kv_num_heads"])
        out = width // (heads + 2 * groups) * heads
    return [(batch, rows, out), *past]


CONTRIB: Mapping[str, Callable[[Shapes, onnx.NodeProto], list[Shape]]] = {
    "BiasGelu": _same,
    "FastGelu": _same,
    "Gelu": _same,
    "GroupQueryAttention": _grouped,
    "MatMulNBits": _last_axis("N"),
    "QuickGelu": _same,
    "RotaryEmbedding": _same,
    "SimplifiedLayerNormalization": _same,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
}
