"""Build an ONNX graph node by node, with its large weights in one external data file.

Naming law: a node is named after its place, ``/layers.0/attn/qkv/MatMulNBits``; its first output
is ``<node>/output_0``; a weight is named ``layers.0.attn.qkv.weight``. Names say where a thing
sits, so that later passes can find it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevlm.bundle.manifest import Segment, TensorEntry
from edgevlm.tensors import Array

ALIGNMENT = 4096  # a page, so that every weight can be memory-mapped on its own
INLINE_BYTES = 1024
MS = "com.microsoft"
_ONNX_DTYPE = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


class DataFile:
    """An external data file, written once from front to back.

    Args:
        path: where to write; the file's name is what the graph beside it refers to.
        name: inside the bundle; None is the file's name.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or path.name
        self._file = path.open("wb")

    def write(self, value: Array) -> Segment:
        """Append an array at the next page boundary and say where it lies."""
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        offset = self._file.tell()
        if value.any():
            self._file.write(np.ascontiguousarray(value).data)
        else:  # zeros, as of a graph that is only counted: a hole takes no room
            self._file.seek(value.nbytes, os.SEEK_CUR)
        return Segment(
            file=self.name, offset=offset, dtype=value.dtype.name, shape=tuple(value.shape)
        )

    def close(self) -> None:
        """Finish the file; may be called twice."""
        if not self._file.closed:
            self._file.truncate()  # a hole at the end counts too
            self._file.close()

    def __enter__(self) -> DataFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class GraphBuilder:
    """Collects nodes, weights, inputs and outputs, then saves one model.

    Args:
        name: of the graph.
        data: where weights of more than ``INLINE_BYTES`` go.
        opset: of the standard domain.
        ir_version: of the model file.
    """

    def __init__(self, name: str, data: DataFile, opset: int = 20, ir_version: int = 10) -> None:
        self.name = name
        self.opset = opset
        self.data = data
        self._ir_version = ir_version
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._domains: set[str] = set()
        self._made: set[str] = set()
        self.inputs: list[TensorEntry] = []
        self.outputs: list[TensorEntry] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str], meaning: str = "") -> str:
        """Declare a graph input and return its name."""
        self.inputs.append(TensorEntry(name=name, dtype=dtype, shape=tuple(shape), meaning=meaning))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str], meaning: str = "") -> str:
        """Declare a graph output and return its name."""
        self.outputs.append(
            TensorEntry(name=name, dtype=dtype, shape=tuple(shape), meaning=meaning)
        )
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        place: str,
        *,
        outputs: Sequence[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node called ``/place/op`` and return the name of its first output."""
        full = f"/{place}/{op}"
        named = list(outputs) if outputs is not None else [f"{full}/output_0"]
        self._nodes.append(
            helper.make_node(op, list(inputs), named, name=full, domain=domain, **attributes)
        )
        self._domains.add(domain)
        self._made.update(named)
        return named[0]

    def derived(
        self, name: str, change: Callable[[onnx.NodeProto], list[onnx.NodeProto]]
    ) -> GraphBuilder:
        """Another graph over the same weights, its inputs and outputs not declared yet.

        Args:
            name: of the graph.
            change: the nodes that take the place of one of this graph's.
        """
        made = GraphBuilder(name, self.data, self.opset, self._ir_version)
        made._nodes = [new for node in self._nodes for new in change(node)]
        used = {value for node in made._nodes for value in node.input}
        made._initializers = {n: v for n, v in self._initializers.items() if n in used}
        made._domains = {node.domain for node in made._nodes}
        made._made = {value for node in made._nodes for value in node.output}
        return made

    def has(self, value: str) -> bool:
        """True if a node already makes this value."""
        return value in self._made

    def constant(self, name: str, value: Array) -> str:
        """A small value kept inside the graph file."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name: str, value: Array) -> Segment | None:
        """A weight; large ones go to the data file, and the place is returned."""
        if value.nbytes <= INLINE_BYTES:
            self.constant(name, value)
            return None
        segment = self.data.write(value)
        self.weight_at(name, segment)
        return segment

    def weight_at(
        self,
        name: str,
        segment: Segment,
        data_type: int | None = None,
        shape: Sequence[int] | None = None,
    ) -> str:
        """A weight that already lies in the data file.

        Args:
            name: of the weight.
            segment: where it lies.
            data_type: ONNX's number of an element type that numpy has none for.
            shape: in elements of that type.
        """
        tensor = TensorProto(
            name=name,
            data_type=_ONNX_DTYPE[segment.dtype] if data_type is None else data_type,
            dims=segment.shape if shape is None else shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", segment.file.rpartition("/")[2]),  # beside the graph
            ("offset", str(segment.offset)),
            ("length", str(segment.nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        self._initializers[name] = tensor
        return name

    def save(self, path: Path) -> None:
        """Check the wiring and write the model file."""
        self._check()
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [_value_info(t) for t in self.inputs],
            [_value_info(t) for t in self.outputs],
            initializer=list(self._initializers.values()),
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(d, 1) for d in sorted(self._domains - {""})]
        model = helper.make_model(
            graph,
            opset_imports=imports,
            ir_version=self._ir_version,
            producer_name="edgevlm",
        )
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _check(self) -> None:
        if len({node.name for node in self._nodes}) < len(self._nodes):
            raise AssertionError("two nodes have one name: give each part a place of its own")
        used = {name for node in self._nodes for name in node.input}
        made = {name for node in self._nodes for name in node.output}
        made |= set(self._initializers) | {t.name for t in self.inputs}
        if idle := [t.name for t in self.inputs if t.name not in used]:
            raise AssertionError(f"graph inputs without a consumer: {idle}")
        if idle := sorted(set(self._initializers) - used):
            raise AssertionError(f"weights without a consumer: {idle}")
        if lost := sorted((used | {t.name for t in self.outputs}) - made - {""}):
            raise AssertionError(f"values without a producer: {lost}")


def _value_info(entry: TensorEntry) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(entry.name, _ONNX_DTYPE[entry.dtype], list(entry.shape))
