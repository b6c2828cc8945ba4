"""What every vision encoder is written with.

Activations, LayerNorm, softmax and the residual stream stay in float32 whatever the weights are:
encoders drift in half precision exactly there. fp16 means that matrices are stored and multiplied
in half precision; int8 means blocks of 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.manifest import WeightEntry
from edgevlm.export.decoder.linear import LinearWriter
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.tensors import Array, Float32

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"]


class TowerWriter:
    """An encoder being written: its weights, and the nodes that recur.

    Args:
        graph: the graph being built.
        source: the weights, by the names that the encoder has for them.
        plan: precisions, by those names.
    """

    def __init__(self, graph: GraphBuilder, source: WeightSource, plan: PrecisionPlan) -> None:
        self.graph = graph
        self.source = source
        self._linears = LinearWriter(graph, source, replace(plan, wide=True))

    @property
    def entries(self) -> dict[str, WeightEntry]:
        """Where each matrix lies."""
        return self._linears.entries

    @property
    def exceptions(self) -> dict[str, str]:
        """Matrices in another precision than the default."""
        return self._linears.exceptions

    def node(self, op: str, inputs: Sequence[str], place: str, **attributes: Any) -> str:
        """Append a node and give its output."""
        return self.graph.node(op, inputs, place, **attributes)

    def ints(self, *values: int) -> str:
        """A small constant vector."""
        name = "ints." + ".".join(map(str, values))
        return self.graph.constant(name, np.array(values, np.int64))

    def tensor(self, name: str, value: Array) -> str:
        """A weight that is no matrix of a linear layer."""
        self.graph.weight(name, np.ascontiguousarray(value))
        return name

    def linear(self, x: str, names: str | list[str], place: str, *, bias: bool = True) -> str:
        """``x @ weight.T + bias``; several names over the same input are stacked."""
        stacked = [names] if isinstance(names, str) else names
        return self._linears.linear(x, stacked, place, bias=bias)

    def layer_norm(self, x: str, name: str, eps: float, place: str) -> str:
        """LayerNorm over the last axis."""
        weight = self.tensor(f"{name}.weight", self.source.get(f"{name}.weight"))
        bias = self.tensor(f"{name}.bias", self.source.get(f"{name}.bias"))
        return self.node("LayerNormalization", [x, weight, bias], place, axis=-1, epsilon=eps)

    def rms_norm(self, x: str, name: str, eps: float, place: str) -> str:
        """RMSNorm over the last axis."""
        weight = self.tensor(f"{name}.weight", self.source.get(f"{name}.weight"))
        square = self.node("Mul", [x, x], f"{place}/square")
        mean = self.node("ReduceMean", [square, self.ints(-1)], place, keepdims=1)
        small = self.graph.constant(f"eps.{eps!r}", np.array(eps, np.float32))
        root = self.node("Sqrt", [self.node("Add", [mean, small], f"{place}/eps")], place)
        return self.node("Mul", [self.node("Div", [x, root], place), weight], f"{place}/weight")

    def activation(self, x: str, kind: Activation, place: str) -> str:
        """One of the usual non-linearities."""
        if kind == "gelu":
            return self.node("Gelu", [x], place)
        if kind == "gelu_tanh":
            return self.node("Gelu", [x], place, approximate="tanh")
        if kind == "relu":
            return self.node("Relu", [x], place)
        scaled = x
        if kind == "quick_gelu":
            factor = self.graph.constant("quick_gelu", np.array(1.702, np.float32))
            scaled = self.node("Mul", [x, factor], f"{place}/scaled")
        return self.node("Mul", [x, self.node("Sigmoid", [scaled], place)], place)

    def heads(self, x: str, count: int, width: int, place: str) -> str:
        """``(batch, tokens, count * width)`` to ``(batch, count, tokens, width)``."""
        split = self.node("Reshape", [x, self.ints(0, 0, count, width)], place)
        return self.node("Transpose", [split], place, perm=[0, 2, 1, 3])

    def attention(
        self, q: str, k: str, v: str, scale: float, place: str, mask: str | None = None
    ) -> str:
        """Attention of ``(batch, heads, tokens, width)``, as ``(batch, tokens, heads * width)``.

        Args:
            q: queries.
            k: keys.
            v: values.
            scale: of the products.
            place: where the nodes sit.
            mask: added to the scores, if given.
        """
        factor = self.graph.constant(f"scale.{scale!r}", np.array(scale, np.float32))
        turned = self.node("Transpose", [k], f"{place}/keys", perm=[0, 1, 3, 2])
        scaled = self.node("Mul", [q, factor], f"{place}/queries")
        scores = self.node("MatMul", [scaled, turned], f"{place}/scores")
        if mask is not None:
            scores = self.node("Add", [scores, mask], f"{place}/masked")
        weights = self.node("Softmax", [scores], place, axis=-1)
        mixed = self.node("MatMul", [weights, v], f"{place}/values")
        back = self.node("Transpose", [mixed], f"{place}/back", perm=[0, 2, 1, 3])
        return self.node("Reshape", [back, self.ints(0, 0, -1)], f"{place}/back")

    def normalized(
        self, image: str, mean: tuple[float, ...], std: tuple[float, ...], place: str
    ) -> str:
        """uint8 ``(..., 3)`` to ``(x / 255 - mean) / std``, float32."""
        g = self.graph
        pixels = self.node("Cast", [image], f"{place}/float", to=TensorProto.FLOAT)
        scale = (1.0 / (255.0 * np.array(std, np.float64))).astype(np.float32)
        shift = (np.array(mean, np.float64) / np.array(std, np.float64)).astype(np.float32)
        scaled = self.node("Mul", [pixels, g.constant("pixels.scale", scale)], place)
        return self.node("Sub", [scaled, g.constant("pixels.shift", shift)], place)

    def patches(
        self,
        image: str,
        kernel: Float32,
        bias: Float32 | None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        place: str,
    ) -> str:
        """uint8 ``(tiles, height, width, 3)`` to patch embeddings ``(tiles, patches, width)``.

        Normalisation comes first, as its own nodes: folding it into the kernel loses digits.

        Args:
            image: name of the input.
            kernel: float32 ``(width, 3, patch, patch)``.
            bias: float32 ``(width,)``.
            mean: of each channel, of pixels in [0, 1].
            std: likewise.
            place: where the nodes sit.
        """
        normal = self.normalized(image, mean, std, place)
        planes = self.node("Transpose", [normal], f"{place}/planes", perm=[0, 3, 1, 2])
        names = [self.tensor(f"{place.replace('/', '.')}.weight", kernel)]
        if bias is not None:
            names.append(self.tensor(f"{place.replace('/', '.')}.bias", bias))
        patch = kernel.shape[-1]
        grid = self.node("Conv", [planes, *names], place, strides=[patch, patch])
        flat = self.node("Reshape", [grid, self.ints(0, 0, -1)], f"{place}/flat")
        return self.node("Transpose", [flat], f"{place}/rows", perm=[0, 2, 1])
