"""Tables of bytes that rows are looked up in, such as embeddings in blocks of 8 bits."""

from __future__ import annotations

import numpy as np
import onnx

from edgevlm.export.targets.element_types import write_floats
from edgevlm.export.targets.rewrite import NodeRule, Rewriter, attribute


def _gather(r: Rewriter, node: onnx.NodeProto) -> None:
    """Of a table of bytes: as floats, which hold every byte; TensorRT's layers take no uint8."""
    table, ids = node.input
    if not r.stored.has(table) or r.stored.array(table).dtype != np.uint8:
        r.copy(node)
        return
    place = r.place(node)
    name = f"{place.replace('/', '.')}.table"
    write_floats(r.graph, name, np.asarray(r.stored.array(table)), r.products.kind)
    axis = attribute(node, "axis", 0)
    rows = r.graph.node("Gather", [name, r.value(ids)], f"{place}/rows", axis=axis)
    r.widened(node.output[0], rows, place)


TABLES: dict[tuple[str, str], NodeRule] = {("", "Gather"): _gather}
