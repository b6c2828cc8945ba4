"""Products of strongly typed graphs: operands in the chosen type, everything else in float32.

TensorRT computes in the types that a graph states. Matrices, and what they are multiplied by, are
cast to the product's type, and the result is cast back: norms, softmax, activations and the
residual stream stay in float32, where half precision overflows first. The casts become part of
the neighbouring kernels.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from edgevlm.bundle.manifest import WeightEntry
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.targets.element_types import FLOAT, write_floats, write_int4
from edgevlm.export.targets.forms import Forms, Steps, stack
from edgevlm.tensors import Array, Float32

MATRIX_BYTES = 256 << 20  # a larger head is two: its tactics ask for twice its size at once


class TypedProducts:
    """Writes casts and products into one graph.

    Args:
        graph: the graph being built.
        kind: ONNX's number of the products' type.
    """

    def __init__(self, graph: GraphBuilder, kind: int) -> None:
        self._graph = graph
        self.kind = kind
        self._casts: dict[tuple[str, int], str] = {}

    def narrow(self, x: str, place: str, kind: int | None = None) -> str:
        """A float32 value in the products' type (or ``kind``), cast once however often used."""
        wanted = self.kind if kind is None else kind
        if wanted == FLOAT:
            return x
        if (x, wanted) not in self._casts:
            cast = self._graph.node("Cast", [x], f"{place}/narrow", to=wanted)
            self._casts[x, wanted] = cast
        return self._casts[x, wanted]

    def widen(self, x: str, place: str, kind: int | None = None) -> str:
        """A value of the products' type (or ``kind``) in float32."""
        given = self.kind if kind is None else kind
        if given == FLOAT:
            return x
        wide = self._graph.node("Cast", [x], f"{place}/widen", to=FLOAT)
        self._casts[wide, given] = x
        return wide

    def product(self, a: str, b: str, place: str, kind: int | None = None) -> str:
        """``a @ b`` of two float32 values, in float32."""
        left = self.narrow(a, f"{place}/left", kind)
        right = self.narrow(b, f"{place}/right", kind)
        return self.widen(self._graph.node("MatMul", [left, right], place), place, kind)

    def by_matrix(self, x: str, matrix: str, place: str) -> str:
        """``x @ matrix``, the matrix in the products' type already."""
        y = self._graph.node("MatMul", [self.narrow(x, place), matrix], place)
        return self.widen(y, place)

    def by_floats(self, x: str, matrix: Array, place: str, limit: int = MATRIX_BYTES) -> str:
        """``x @ matrix`` of float32 ``(..., in, out)``; cut in columns where it is too large."""
        width = 4 if self.kind == FLOAT else 2
        parts = np.array_split(matrix, max(1, -(-matrix.size * width // limit)), axis=-1)
        found = []
        for part, at in zip(parts, _places(place, len(parts)), strict=True):
            name = write_floats(self._graph, f"{_label(at)}.matrix", part, self.kind)
            found.append(self.by_matrix(x, name, at))
        return found[0] if len(found) == 1 else self._graph.node("Concat", found, place, axis=-1)


class TypedLinears:
    """Linear layers of a decoder, in the form that ``forms`` gives each matrix.

    Args:
        graph: the graph being built.
        source: the weights.
        forms: of the matrices.
        products: casts and products.
        limit: bytes of the largest matrix; a larger head is split in two or more.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        source: WeightSource,
        forms: Forms,
        products: TypedProducts,
        limit: int = MATRIX_BYTES,
    ) -> None:
        self.entries: dict[str, WeightEntry] = {}
        self.exceptions: dict[str, str] = {}
        self._graph = graph
        self._source = source
        self._forms = forms
        self._products = products
        self._limit = limit

    def linear(
        self, x: str, names: list[str], place: str, *, bias: bool = False, rows_first: bool = False
    ) -> str:
        """``x @ concat(weights).T (+ bias)``, float32; ``rows_first`` marks the output head."""
        found = [(name, self._forms.steps(name)) for name in names]
        parts = []
        for _, run in groupby(found, lambda item: None if item[1] is None else item[1].kind):
            parts += self._run(x, list(run), place, split=rows_first)
        g = self._graph
        y = parts[0] if len(parts) == 1 else g.node("Concat", parts, f"{place}/all", axis=-1)
        if not bias:
            return y
        stacked = np.concatenate([self._source.get(f"{n}.bias") for n in names])
        name = f"{_label(place)}.bias"
        g.weight(name, stacked.astype(np.float32))
        return g.node("Add", [y, name], place)

    def _run(
        self, x: str, run: list[tuple[str, Steps | None]], place: str, *, split: bool
    ) -> list[str]:
        """Matrices of one form, stacked, or cut again where they are too large."""
        names = [name for name, _ in run]
        quantised = [steps for _, steps in run if steps is not None]
        where = place if len(names) > 1 else f"{place}/{names[0].rpartition('.')[2]}"
        pieces: list[Steps | Float32]
        if quantised:
            whole = stack(quantised)
            count = self._cut(len(whole.steps), whole.steps.shape[1] * whole.bits // 8)
            pieces = [*whole.cut(count if split else 1)]
        else:
            parts = [self._source.get(f"{n}.weight") for n in names]
            matrix: Float32 = parts[0] if len(parts) == 1 else np.concatenate(parts)
            width = 4 if self._products.kind == FLOAT else 2
            count = self._cut(len(matrix), matrix.shape[1] * width)
            pieces = [*np.array_split(matrix, count if split else 1)]
        return [
            self._products.by_matrix(x, self._operand(piece, at), at)
            for piece, at in zip(pieces, _places(where, len(pieces)), strict=True)
        ]

    def _cut(self, rows: int, row_bytes: int) -> int:
        return min(rows, -(-rows * row_bytes // self._limit))

    def _operand(self, matrix: Steps | Float32, place: str) -> str:
        """The matrix as ``(in, out)`` in the products' type."""
        g, label, kind = self._graph, _label(place), self._products.kind
        if not isinstance(matrix, Steps):
            return write_floats(g, f"{label}.weight", matrix.T, kind)
        values, scales = f"{label}.values", f"{label}.scales"
        turned = np.ascontiguousarray(matrix.steps.T)
        if matrix.bits == 4:
            write_int4(g, values, turned)
        else:
            g.weight_at(values, g.data.write(turned.astype(np.int8)))
        if matrix.bits == 8 and matrix.scales.shape[1] == 1:
            write_floats(g, scales, matrix.scales[:, 0], kind)
            return g.node("DequantizeLinear", [values, scales], place, axis=1)
        write_floats(g, scales, matrix.scales.T, kind)
        size = matrix.block_size
        return g.node("DequantizeLinear", [values, scales], place, axis=0, block_size=size)


def _label(place: str) -> str:
    return place.replace("/", ".")


def _places(place: str, pieces: int) -> list[str]:
    return [place] if pieces == 1 else [f"{place}/{n}" for n in range(pieces)]
