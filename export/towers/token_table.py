"""A token table inside a graph, in the precision of the encoder it belongs to."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.manifest import Precision, Segment, WeightEntry
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.tensors import Array, Float32


def token_rows(
    w: TowerWriter, precision: Precision, ids: str, name: str, place: str
) -> tuple[str, WeightEntry]:
    """Rows of a table by token id, as float32, and where the table lies.

    The table is often most of a text encoder. In fp16 its rows are stored in half precision, in
    int8 as 8 bits with one scale a row: ``scale * (value - 128)``.

    Args:
        w: writer over the encoder's weights.
        precision: of the table.
        ids: int64 ``(batch, tokens)``.
        name: of the table, ``(vocab_size, width)``.
        place: where the nodes sit.

    Returns:
        float32 ``(batch, tokens, width)``.
    """
    table = w.source.get(name)
    if precision in ("int8", "int4"):
        return _bytes(w, table, ids, place)
    half = precision == "fp16"
    segment = _stored(w, place, table.astype(np.float16) if half else table)
    rows = w.node("Gather", [place, ids], place)
    if half:
        rows = w.node("Cast", [rows], f"{place}/float", to=TensorProto.FLOAT)
    return rows, WeightEntry(layout="plain", values=segment)


def _bytes(w: TowerWriter, table: Float32, ids: str, place: str) -> tuple[str, WeightEntry]:
    scales = np.maximum(np.abs(table).max(1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    values = (np.rint(table / scales) + 128).astype(np.uint8)
    entry = WeightEntry(
        layout="blocks",
        bits=8,
        block_size=table.shape[1],
        values=_stored(w, f"{place}.values", values),
        scales=_stored(w, f"{place}.scales", scales),
    )
    picked = w.node("Gather", [f"{place}.values", ids], f"{place}/values")
    wide = w.node("Cast", [picked], f"{place}/float", to=TensorProto.FLOAT)
    middle = w.graph.constant(f"{place}.middle", np.array(128, np.float32))
    around = w.node("Sub", [wide, middle], f"{place}/around")
    scale = w.node("Gather", [f"{place}.scales", ids], f"{place}/scales")
    return w.node("Mul", [around, scale], place), entry


def _stored(w: TowerWriter, name: str, value: Array) -> Segment:
    segment = w.graph.data.write(value)
    w.graph.weight_at(name, segment)
    return segment
