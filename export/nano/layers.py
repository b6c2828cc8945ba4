"""The layers that nano's trained heads are made of: in numpy, and as nodes.

Each reads its tensors under the names that torch gives them, computes in plain numpy, and writes
the same into a graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Float32

NORM_EPS = 1e-5
LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """``x @ weight + bias``; over a plane of channels, a convolution of 1x1.

    Args:
        name: prefix of its tensors.
        weight: float32 ``(in, out)``.
        bias: float32 ``(out,)``.
    """

    name: str
    weight: Float32
    bias: Float32

    @classmethod
    def read(
        cls, file: TrainedFile, name: str, width: int, out: int, *, conv: bool = False
    ) -> Linear:
        """From torch's ``(out, in)``, of a convolution ``(out, in, 1, 1)``."""
        shape = (out, width, 1, 1) if conv else (out, width)
        weight = file.take(f"{name}.weight", *shape).reshape(out, width)
        bias = file.take(f"{name}.bias", out)
        return cls(name=name, weight=np.ascontiguousarray(weight.T), bias=bias)

    def apply(self, rows: Float32) -> Float32:
        """Rows ``(..., in)`` to ``(..., out)``."""
        found: Float32 = rows @ self.weight + self.bias
        return found

    def over_plane(self, plane: Float32) -> Float32:
        """``(in, height, width)`` to ``(out, height, width)``."""
        found: Float32 = np.tensordot(self.weight.T, plane, axes=1) + self.bias[:, None, None]
        return found

    def lower(self, g: GraphBuilder, rows: str) -> str:
        """Write ``apply``."""
        place = self.name.replace(".", "/")
        g.weight(f"{self.name}.weight", self.weight)
        g.weight(f"{self.name}.bias", self.bias)
        product = g.node("MatMul", [rows, f"{self.name}.weight"], place)
        return g.node("Add", [product, f"{self.name}.bias"], place)

    def lower_over_plane(self, g: GraphBuilder, plane: str) -> str:
        """Write ``over_plane``; the plane has a batch of 1."""
        kernel = np.ascontiguousarray(self.weight.T)[:, :, None, None]
        g.weight(f"{self.name}.weight", kernel)
        g.weight(f"{self.name}.bias", self.bias)
        inputs = [plane, f"{self.name}.weight", f"{self.name}.bias"]
        return g.node("Conv", inputs, self.name.replace(".", "/"), kernel_shape=[1, 1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Depthwise:
    """A convolution of every channel for itself, as large behind it as before.

    Args:
        name: prefix of its tensors.
        weight: float32 ``(channels, 1, kernel, kernel)``.
        bias: float32 ``(channels,)``.
    """

    name: str
    weight: Float32
    bias: Float32

    @classmethod
    def read(cls, file: TrainedFile, name: str, channels: int, kernel: int) -> Depthwise:
        """As torch names it."""
        return cls(
            name=name,
            weight=file.take(f"{name}.weight", channels, 1, kernel, kernel),
            bias=file.take(f"{name}.bias", channels),
        )

    def apply(self, plane: Float32) -> Float32:
        """``(channels, height, width)`` to the same."""
        kernel = self.weight.shape[-1]
        _, height, width = plane.shape
        edge = kernel // 2
        padded = np.pad(plane, ((0, 0), (edge, edge), (edge, edge)))
        found: Float32 = np.zeros_like(plane) + self.bias[:, None, None]
        for i in range(kernel):
            for j in range(kernel):
                shifted = padded[:, i : i + height, j : j + width]
                found += self.weight[:, 0, i, j][:, None, None] * shifted
        return found

    def lower(self, g: GraphBuilder, plane: str) -> str:
        """Write it; the plane has a batch of 1."""
        channels, _, kernel, _ = self.weight.shape
        g.weight(f"{self.name}.weight", self.weight)
        g.weight(f"{self.name}.bias", self.bias)
        return g.node(
            "Conv",
            [plane, f"{self.name}.weight", f"{self.name}.bias"],
            self.name.replace(".", "/"),
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            group=channels,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """LayerNorm over the features of a row.

    Args:
        name: prefix of its tensors.
        weight: float32 ``(width,)``.
        bias: float32 ``(width,)``.

    Source: layer normalization (Ba et al., 2016), equations 3 and 4.
    """

    name: str
    weight: Float32
    bias: Float32

    @classmethod
    def read(cls, file: TrainedFile, name: str, width: int) -> Norm:
        """As torch names it."""
        weight, bias = (file.take(f"{name}.{kind}", width) for kind in ("weight", "bias"))
        return cls(name=name, weight=weight, bias=bias)

    def apply(self, rows: Float32) -> Float32:
        """Rows ``(..., width)`` to the same."""
        centred = rows - rows.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        found: Float32 = centred / np.sqrt(variance + np.float32(NORM_EPS))
        return found * self.weight + self.bias

    def lower(self, g: GraphBuilder, rows: str) -> str:
        """Write it."""
        g.weight(f"{self.name}.weight", self.weight)
        g.weight(f"{self.name}.bias", self.bias)
        inputs = [rows, f"{self.name}.weight", f"{self.name}.bias"]
        place = self.name.replace(".", "/")
        return g.node("LayerNormalization", inputs, place, axis=-1, epsilon=NORM_EPS)


def relu(x: Float32) -> Float32:
    """What is below zero is zero."""
    found: Float32 = np.maximum(x, np.float32(0))
    return found


def unit(rows: Float32) -> Float32:
    """Rows ``(..., width)`` of length 1."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    found: Float32 = rows / np.maximum(length, np.float32(LEAST_LENGTH))
    return found


def lower_unit(g: GraphBuilder, rows: str, place: str) -> str:
    """Write ``unit``."""
    axis = g.constant("unit.axis", np.array([-1], np.int64))
    least = g.constant("unit.least", np.float32(LEAST_LENGTH))
    norm = g.node("ReduceL2", [rows, axis], place, keepdims=1)
    return g.node("Div", [rows, g.node("Max", [norm, least], place)], place)


def twice(plane: Float32) -> Float32:
    """``(channels, height, width)`` twice as large, every value four times."""
    found: Float32 = plane.repeat(2, axis=1).repeat(2, axis=2)
    return found


def lower_twice(g: GraphBuilder, plane: str, place: str) -> str:
    """Write ``twice``; the plane has a batch of 1."""
    scales = g.constant("twice.scales", np.array([1, 1, 2, 2], np.float32))
    return g.node(
        "Resize",
        [plane, "", scales],
        place,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def lower_rows(g: GraphBuilder, plane: str, width: int, place: str) -> str:
    """``(1, width, height, width)`` to rows ``(height * width, width)``."""
    shape = g.constant(f"rows.{width}", np.array([width, -1], np.int64))
    return g.node("Transpose", [g.node("Reshape", [plane, shape], place)], place, perm=[1, 0])


def lower_plane(g: GraphBuilder, rows: str, width: int, side: int, place: str) -> str:
    """Rows ``(side * side, width)`` to ``(1, width, side, side)``."""
    shape = g.constant(f"plane.{width}.{side}", np.array([1, width, side, side], np.int64))
    turned = g.node("Transpose", [rows], place, perm=[1, 0])
    return g.node("Reshape", [turned, shape], place)
