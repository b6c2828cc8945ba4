"""The network of a scripted TensorRT: layers, tensors, and the names that they go by there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import onnx


@dataclass
class Tensor:
    """``tensorrt.ITensor``."""

    name: str
    dtype: Any
    shape: tuple[int, ...] = ()


class Layer:
    """``tensorrt.ILayer``."""

    def __init__(self, node: onnx.NodeProto, kind: str) -> None:
        self.name = node.name
        self.type = SimpleNamespace(name=kind)
        self._sides = {"input": list(node.input), "output": list(node.output)}
        self.num_inputs, self.num_outputs = len(node.input), len(node.output)

    def get_input(self, index: int) -> Tensor | None:
        """As its name says."""
        name = self._sides["input"][index]
        return Tensor(name, None) if name else None

    def get_output(self, index: int) -> Tensor:
        """As its name says."""
        return Tensor(self._sides["output"][index], None)


@dataclass
class Network:
    """``tensorrt.INetworkDefinition``."""

    flags: int
    layers: list[Layer] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def num_layers(self) -> int:
        """As its name says."""
        return len(self.layers)

    @property
    def num_inputs(self) -> int:
        """As its name says."""
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        """As its name says."""
        return len(self.outputs)

    def get_layer(self, index: int) -> Layer:
        """As its name says."""
        return self.layers[index]

    def get_input(self, index: int) -> Tensor:
        """As its name says."""
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        """As its name says."""
        return self.outputs[index]


def values(found: Sequence[onnx.ValueInfoProto]) -> Iterator[Tensor]:
    """A graph's inputs or outputs as TensorRT describes them; -1 is a free dimension."""
    names = {"FLOAT16": "HALF"}
    for value in found:
        tensor = value.type.tensor_type
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        yield Tensor(value.name, SimpleNamespace(name=names.get(kind, kind)), shape)
