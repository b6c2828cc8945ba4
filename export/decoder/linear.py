"""Place one linear layer into a graph, in the precision that was asked for."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.manifest import Precision, Segment, WeightEntry
from edgevlm.errors import ConfigError
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import MS, GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import (
    BLOCK,
    QuantBlocks,
    quantize_asymmetric,
    quantize_symmetric,
    stack_rows,
)
from edgevlm.export.repair.comparison import PREFIX
from edgevlm.tensors import Array

_HALF: Precision = "fp16"
_DTYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


class LinearWriter:
    """Writes linear layers into one graph, and notes where each weight went.

    Args:
        graph: the graph being built.
        source: the checkpoint.
        plan: precisions.
    """

    def __init__(self, graph: GraphBuilder, source: WeightSource, plan: PrecisionPlan) -> None:
        self._graph = graph
        self._source = source
        self._plan = plan
        self.entries: dict[str, WeightEntry] = {}
        self.exceptions: dict[str, str] = {}

    def linear(
        self, x: str, names: list[str], place: str, *, bias: bool = False, rows_first: bool = False
    ) -> str:
        """``x @ concat(weights).T (+ bias)``.

        Args:
            x: input value ``(..., in)``.
            names: canonical names of one or more matrices over the same input, stacked.
            place: where the node sits.
            bias: add the matrices' biases.
            rows_first: keep a float matrix as ``(out, in)`` (used where it is also looked up by
                row); needs a two-dimensional ``x``.

        Returns:
            the name of the output value ``(..., sum of outs)``.
        """
        chosen = self._chosen(names)
        kept = self._kept(names, chosen)
        precision = self._precision(names, chosen, kept)
        label = place.replace("/", ".")
        if precision in ("int8", "int4"):
            blocks = kept or [self._rounded(n, precision) for n in names]
            y = self._quantized(x, stack_rows(blocks), place, label)
        else:
            y = self._float(x, names, place, precision, rows_first)
        ours = kept is None or kept[0].rounded  # what the checkpoint rounded stays as it is
        if self._plan.comparison is not None and precision != "fp32" and ours:
            exact = self._float(x, names, f"{place}/source", "fp32", rows_first)
            y = self._compared(exact, y, names, place, precision)
        if bias:
            stacked = np.concatenate([self._source.get(f"{n}.bias") for n in names])
            name = f"{label}.bias"
            self._graph.weight(name, stacked.astype(self._plan.float_dtype))
            y = self._graph.node("Add", [y, name], place)
        return y

    def _chosen(self, names: list[str]) -> Precision:
        chosen = {self._plan.of(n) for n in names}
        if len(chosen) != 1:
            raise ConfigError(
                f"{names} are computed together and need one precision, got {sorted(chosen)}"
            )
        return chosen.pop()

    def _kept(self, names: list[str], chosen: Precision) -> list[QuantBlocks] | None:
        """Blocks of the checkpoint that go into the graph as they are; None if they do not fit.

        In an int4 graph a matrix that was stored in 4 bits stays so: 8 would add nothing to it.
        """
        if chosen not in ("int8", "int4"):
            return None
        found = [self._source.blocks(f"{n}.weight") for n in names]
        stored = [b.without_zeros() if self._plan.symmetric else b for b in found if b is not None]
        if len(stored) < len(names) or len({b.kind for b in stored}) != 1:
            return None
        if stored[0].rounded and chosen != "int4":
            return None
        bits, _, zeros = stored[0].kind
        if bits == 8:
            fits = chosen == "int8" and not zeros
        else:
            allowed = chosen == "int4" or self._plan.default == "int4"
            fits = allowed and zeros != self._plan.symmetric and names != ["embed_tokens"]
        return stored if fits else None

    def _precision(
        self, names: list[str], chosen: Precision, kept: list[QuantBlocks] | None
    ) -> Precision:
        precision = chosen
        if kept is not None:
            precision = "int4" if kept[0].bits == 4 else "int8"
        elif chosen in ("int8", "int4") and self._width(names[0]) % BLOCK:
            precision = "fp32"  # listed under the graph's exceptions
        if precision != self._plan.default:
            for name in names:
                self.exceptions[name] = precision
        return precision

    def _width(self, name: str) -> int:
        return self._source.shape(f"{name}.weight")[1]

    def _float(
        self, x: str, names: list[str], place: str, precision: Precision, rows_first: bool
    ) -> str:
        """A product in floats; in a half precision graph its matrices are multiplied in half."""
        outside, label = self._plan.float_dtype, place.replace("/", ".")
        dtype = "float16" if precision == _HALF else "float32"
        matrix = _stack([self._source.get(f"{n}.weight") for n in names]).astype(dtype)
        stored = matrix if rows_first else np.ascontiguousarray(matrix.T)
        weight = f"{label}.weight"
        segment = self._graph.data.write(stored)
        self._graph.weight_at(weight, segment)
        self.entries[label] = WeightEntry(
            layout="plain" if rows_first else "transposed", values=segment
        )
        inside = dtype
        if precision == _HALF != self._plan.default:  # stored in half, to save room
            weight, inside = self._cast(weight, "float32", f"{place}/weight"), "float32"
        x = x if inside == outside else self._cast(x, inside, f"{place}/in")
        if rows_first:
            y = self._graph.node("Gemm", [x, weight], place, transB=1)
        else:
            y = self._graph.node("MatMul", [x, weight], place)
        return y if inside == outside else self._cast(y, outside, f"{place}/out")

    def _cast(self, x: str, dtype: str, place: str) -> str:
        return self._graph.node("Cast", [x], place, to=_DTYPES[dtype])

    def _compared(
        self, exact: str, y: str, names: list[str], place: str, precision: Precision
    ) -> str:
        """Say how far ``y`` is off, as the share of its energy that is error; go on exactly."""
        g, label = self._graph, place.replace("/", ".")
        gap = g.node("Sub", [y, exact], f"{place}/drift")
        error = g.node("ReduceSumSquare", [gap], f"{place}/drift/error", keepdims=0)
        size = g.node("ReduceSumSquare", [exact], f"{place}/drift/size", keepdims=0)
        least = g.constant("drift.least", np.array(1e-30, np.float32))
        size = g.node("Max", [size, least], f"{place}/drift/size")
        g.node("Div", [error, size], f"{place}/drift", outputs=[f"{PREFIX}{label}"])
        g.output(f"{PREFIX}{label}", "float32", (), "squared error over squared output")
        if self._plan.comparison is not None:
            values = sum(int(np.prod(self._source.shape(f"{n}.weight"))) for n in names)
            self._plan.comparison.add(g.name, label, names, precision, values)
        return exact

    def _quantized(self, x: str, blocks: QuantBlocks, place: str, label: str) -> str:
        segments = self.write_blocks(label, blocks)
        inputs = [x, f"{label}.values", f"{label}.scales"]
        if segments.zeros is not None:
            inputs.append(f"{label}.zeros")
        return self._graph.node(
            "MatMulNBits",
            inputs,
            place,
            domain=MS,
            K=blocks.in_features,
            N=len(blocks.values),
            bits=blocks.bits,
            block_size=blocks.block_size,
            accuracy_level=self._plan.accuracy_level,
        )

    def write_blocks(self, label: str, blocks: QuantBlocks) -> WeightEntry:
        """Write a quantised matrix to the data file, once, and declare its tensors."""

        def place(name: str, value: Array) -> Segment:
            segment = self._graph.data.write(value)
            self._graph.weight_at(f"{label}.{name}", segment)
            return segment

        zeros = blocks.packed_zeros()
        entry = WeightEntry(
            layout="blocks",
            bits=blocks.bits,
            block_size=blocks.block_size,
            values=place("values", blocks.packed_values()),
            scales=place("scales", blocks.scales),
            zeros=None if zeros is None else place("zeros", zeros),
        )
        self.entries[label] = entry
        return entry

    def _rounded(self, name: str, precision: Precision) -> QuantBlocks:
        matrix = self._source.get(f"{name}.weight")
        block = self._plan.block(precision, matrix.shape[1])
        if precision == "int4" and not self._plan.symmetric:
            return quantize_asymmetric(matrix, 4, block)
        return quantize_symmetric(matrix, 4 if precision == "int4" else 8, block)


def _stack(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
