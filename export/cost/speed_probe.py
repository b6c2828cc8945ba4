"""Graphs that measure a machine: matrix products in each precision, as the exporter writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevlm.bundle.manifest import Precision
from edgevlm.cost.probe import SpeedProbe
from edgevlm.cost.sheet import PRECISIONS
from edgevlm.export.decoder.linear import LinearWriter
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK, QuantBlocks
from edgevlm.tensors import Float32

WIDTH = 1536
LAYERS = 24


class _Random:
    """Matrices of noise, quantised ones made without rounding: only their speed matters."""

    def __init__(self, precision: Precision) -> None:
        self._random = np.random.default_rng(5)
        self._bits = {"int8": 8, "int4": 4}.get(precision)

    def has(self, name: str) -> bool:  # noqa: ARG002 - all there
        return True

    def shape(self, name: str) -> tuple[int, ...]:  # noqa: ARG002 - all alike
        return (WIDTH, WIDTH)

    def get(self, name: str) -> Float32:  # noqa: ARG002 - all alike
        made: Float32 = self._random.standard_normal((WIDTH, WIDTH), np.float32)
        made *= np.float32(WIDTH**-0.5)
        return made

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - all alike
        if self._bits is None:
            return None
        count, top = WIDTH // BLOCK, 1 << self._bits
        zeros = np.full((WIDTH, count), top // 2, np.uint8) if self._bits == 4 else None
        return QuantBlocks(
            bits=self._bits,
            values=self._random.integers(0, top, (WIDTH, count, BLOCK), np.uint8),
            scales=np.full((WIDTH, count), 2.0 * WIDTH**-0.5 / top, np.float32),
            zeros=zeros,
        )


def write_probes(folder: Path) -> list[SpeedProbe]:
    """One graph a precision under ``folder``; about 500 MB."""
    return [_write(folder, precision) for precision in PRECISIONS]


def _write(folder: Path, precision: Precision) -> SpeedProbe:
    plan = PrecisionPlan(default=precision)
    layers = LAYERS if precision != "fp32" else LAYERS // 2
    path = folder / f"{precision}.onnx"
    with DataFile(folder / f"{precision}.onnx.data") as data:
        graph = GraphBuilder(precision, data)
        writer = LinearWriter(graph, _Random(precision), plan)
        value = graph.input("x", plan.float_dtype, ("rows", WIDTH))
        for layer in range(layers):
            value = writer.linear(value, [f"layer.{layer}"], f"layers.{layer}")
        graph.node("Identity", [value], "y", outputs=["y"])
        graph.output("y", plan.float_dtype, ("rows", WIDTH))
        graph.save(path)
    segments = [
        s for e in writer.entries.values() for s in (e.values, e.scales, e.zeros) if s is not None
    ]
    return SpeedProbe(
        path=path,
        precision=precision,
        dtype=plan.float_dtype,
        width=WIDTH,
        weight_bytes=sum(s.nbytes for s in segments),
        weights=layers * WIDTH * WIDTH,
    )
