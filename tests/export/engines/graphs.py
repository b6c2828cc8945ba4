"""A bundle's graphs, lowered by hand: a picture's rows, and one attention over a static cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.progress import Report
from edgevlm.export.targets.relower import TargetGraph, TargetPrecision

CAPACITY, WIDTH = 32, 16
RANGES = {"tokens": (1, 1, 8)}


def quiet(_done: int, _total: int, _what: str) -> None:
    """Nobody watches."""


def lower(
    bundle: Bundle,
    lowering: StaticLowering,
    precision: TargetPrecision | None,
    into: Path,
    report: Report = quiet,
) -> dict[str, TargetGraph]:
    """In place of ``relower``, and in the same shape."""
    assert bundle.manifest.graphs
    report(1, 2, "rows")
    return {
        "rows": _rows(into, lowering, precision or "fp16"),
        "decoder": _decoder(into, lowering, precision or "fp16"),
    }


def _target(
    made: GraphBuilder, path: Path, lowering: str, precision: str, aliases: dict[str, str]
) -> TargetGraph:
    made.save(path)
    made.data.close()
    return TargetGraph(
        name=made.name, path=path, inputs=tuple(made.inputs), outputs=tuple(made.outputs),
        aliases=aliases, ranges=RANGES, precision=precision, lowering=lowering,
        notes=("drawn by hand",),
    )  # fmt: skip


def _rows(into: Path, lowering: str, precision: str) -> TargetGraph:
    path = into / "rows.onnx"
    made = GraphBuilder("rows", DataFile(into / "rows.onnx.data"))
    x = made.input("x", "float32", ("tokens", 64))
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    made.weight("weight", weight)
    made.node("MatMul", [x, "weight"], "proj", outputs=["y"])
    made.output("y", "float32", ("tokens", 64))
    return _target(made, path, lowering, precision, {})


def _decoder(into: Path, lowering: str, precision: str) -> TargetGraph:
    path = into / "decoder.onnx"
    made = GraphBuilder("decoder", DataFile(into / "decoder.onnx.data"), opset=24)
    past = made.input("past", "float16", (1, 2, CAPACITY, WIDTH))
    new = made.input("new", "float16", (1, 2, "tokens", WIDTH))
    at = made.input("at", "int64", (1,))
    query = made.input("query", "float16", (1, 4, "tokens", WIDTH))
    mask = made.input("mask", "bool", (1, 1, "tokens", CAPACITY))
    made.node("TensorScatter", [past, new, at], "cache", outputs=["present"], axis=-2)
    made.node("Attention", [query, "present", "present", mask], "attention", outputs=["y"])
    made.output("y", "float16", (1, 4, "tokens", WIDTH))
    made.output("present", "float16", (1, 2, CAPACITY, WIDTH))
    return _target(made, path, lowering, precision, {"present": "past"})
