"""Place one linear layer into a graph, in the precision that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from edgevlm.bundle.manifest import Precision, Segment, WeightEntry
from edgevlm.errors import ConfigError
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import MS, GraphBuilder
from edgevlm.export.quantize import (
    BLOCK,
    QuantBlocks,
    quantize_asymmetric,
    quantize_symmetric,
    stack_rows,
)
from edgevlm.tensors import Array

ACCURACY_INT8 = 4  # int8 activations: the only fast CPU path of MatMulNBits


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPlan:
    """Which precision each weight gets.

    Args:
        default: of every linear layer.
        symmetric: int4 without zero points.
        overrides: glob pattern over canonical names -> precision; the first match wins.
        accuracy_level: of MatMulNBits; 4 computes with int8 activations, 0 and 1 in float.
    """

    default: Precision
    symmetric: bool = False
    overrides: dict[str, Precision] = field(default_factory=dict)
    accuracy_level: int = ACCURACY_INT8

    def of(self, name: str) -> Precision:
        """The precision of one weight, by its canonical name."""
        for pattern, precision in self.overrides.items():
            if fnmatchcase(name, pattern):
                return precision
        return self.default

    @property
    def float_dtype(self) -> str:
        """Dtype of activations, norms and unquantised weights."""
        return "float16" if self.default == "fp16" else "float32"


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
            y = self._float(x, names, place, label, rows_first)
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
        elif chosen in ("int8", "int4") and self._source.shape(f"{names[0]}.weight")[1] % BLOCK:
            precision = "fp32"  # listed under the graph's exceptions
        if precision != self._plan.default:
            for name in names:
                self.exceptions[name] = precision
        return precision

    def _float(self, x: str, names: list[str], place: str, label: str, rows_first: bool) -> str:
        dtype = self._plan.float_dtype
        matrix = _stack([self._source.get(f"{n}.weight") for n in names]).astype(dtype)
        stored = matrix if rows_first else np.ascontiguousarray(matrix.T)
        weight = f"{label}.weight"
        segment = self._graph.data.write(stored)
        self._graph.weight_at(weight, segment)
        self.entries[label] = WeightEntry(
            layout="plain" if rows_first else "transposed", values=segment
        )
        if rows_first:
            return self._graph.node("Gemm", [x, weight], place, transB=1)
        return self._graph.node("MatMul", [x, weight], place)

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
        if precision == "int4" and not self._plan.symmetric:
            return quantize_asymmetric(matrix, 4)
        return quantize_symmetric(matrix, 4 if precision == "int4" else 8)


def _stack(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
