"""The token lookup of a graph: taken out as a table, which the runtime maps and reads itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from edgevlm.bundle.manifest import WeightEntry
from edgevlm.errors import CheckpointError
from edgevlm.export.graph import DataFile
from edgevlm.export.hf_import.model_file import ModelFile, all_nodes
from edgevlm.tensors import Array

IDS, ROWS = "input_ids", "inputs_embeds"
HALF = 10  # ONNX's number of float16


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """``scale * table[input_ids]``, as some nodes of a graph compute it.

    Args:
        table: float32 or float16 ``(vocab_size, hidden_size)``.
        scale: of every row.
        value: name of the rows.
        dtype: of the rows.
        nodes: that compute them.
    """

    table: Array
    scale: float
    value: str
    dtype: str
    nodes: tuple[Any, ...]

    def write(self, path: Path) -> WeightEntry:
        """Write the rows as they come out of the lookup."""
        rows = self.table
        if self.scale != 1.0:
            rows = rows.astype(np.float32) * np.float32(self.scale)
        with DataFile(path) as data:
            return WeightEntry(layout="plain", values=data.write(rows))


def find_lookup(file: ModelFile) -> Lookup:
    """The lookup of a graph with the input ``input_ids``.

    Raises:
        CheckpointError: it is no plain table, or lies inside a branch.
    """
    takers = [n for n in file.graph.node if IDS in n.input]
    gathers = [n for n in takers if n.op_type == "Gather" and n.input[1] == IDS]
    table = file.weight(gathers[0].input[0]) if len(gathers) == 1 else None
    if table is None or table.ndim != 2:
        found = sorted({n.op_type for n in all_nodes(file.graph) if IDS in n.input})
        raise CheckpointError(
            f"{file.path}: token ids go into {', '.join(found) or 'nothing'}; only one Gather from "
            "a stored table can become the bundle's embedding: take another variant of the file"
        )
    nodes, scale, dtype = [gathers[0]], 1.0, table.dtype.name
    value = gathers[0].output[0]
    while step := _next(file, value):
        op, node = step
        if op == "DequantizeLinear":
            table, dtype = _dequantized(file, node, table), "float32"
        elif op == "Mul":
            scale *= float(_scalar(file, node, value))
        elif op == "Cast":
            dtype = "float16" if _attribute(node, "to") == HALF else "float32"
        nodes.append(node)
        value = node.output[0]
    if table.dtype.name not in ("float32", "float16"):
        raise CheckpointError(
            f"{file.path}: the embedding table is {table.dtype} without scales: take another "
            "variant of the file"
        )
    return Lookup(table, scale, value, dtype, tuple(nodes))


def _next(file: ModelFile, value: str) -> tuple[str, Any] | None:
    """The node behind a value, where it is alone and still part of the lookup."""
    takers = [n for n in all_nodes(file.graph) if value in n.input]
    if len(takers) != 1 or value in {o.name for o in file.graph.output}:
        return None
    node = takers[0]
    if node.op_type == "Mul" and _scalar(file, node, value) is None:
        return None
    known = ("Cast", "Identity", "DequantizeLinear", "Mul")
    return (node.op_type, node) if node.op_type in known else None


def _scalar(file: ModelFile, node: Any, value: str) -> Any:
    """The constant that a value is multiplied by, if it is one number."""
    other = next((n for n in node.input if n != value), None)
    found = _constant(file, other)
    return found.reshape(-1)[0] if found is not None and found.size == 1 else None


def _constant(file: ModelFile, name: str | None) -> Array | None:
    if name is None:
        return None
    if (stored := file.weight(name)) is not None:
        return stored
    for node in file.graph.node:
        if node.op_type == "Constant" and name in node.output and node.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t))
    return None


def _dequantized(file: ModelFile, node: Any, table: Array) -> Array:
    """The table as the graph's kernels see it, float32."""
    scale, zero = (_constant(file, n) for n in [*node.input[1:], None][:2])
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        raise CheckpointError(f"{file.path}: the embedding table has more than one scale")
    offset = np.int32(0 if zero is None else zero.reshape(-1)[0])
    rows = (table.astype(np.int32) - offset).astype(np.float32)
    return np.asarray(rows * np.float32(scale.reshape(-1)[0]))


def _attribute(node: Any, name: str) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def take_rows(file: ModelFile, lookup: Lookup) -> None:
    """Let a graph take rows in the place of token ids.

    Raises:
        CheckpointError: token ids are used for more than their rows and their number.
    """
    file.free(ROWS)
    graph = file.graph
    done = {n.output[0] for n in lookup.nodes}
    kept = [n for n in graph.node if n.output[0] not in done]
    others = [n for n in all_nodes(graph) if IDS in n.input and n.output[0] not in done]
    if odd := sorted({n.op_type for n in others if n.op_type != "Shape"}):
        raise CheckpointError(
            f"{file.path}: token ids also go into {', '.join(odd)}; the runtime gives rows instead"
        )
    for node in others:
        first, last = (_attribute(node, name) for name in ("start", "end"))
        chosen = list(range(2))[first or 0 : last]
        whole, index = f"edgevlm/{node.output[0]}/shape", f"edgevlm/{node.output[0]}/index"
        graph.initializer.append(numpy_helper.from_array(np.array(chosen, np.int64), index))
        node.CopyFrom(helper.make_node("Gather", [whole, index], list(node.output), axis=0))
        kept.insert(0, helper.make_node("Shape", [ROWS], [whole]))
    for node in all_nodes(graph):
        for place, name in enumerate(node.input):
            if name == lookup.value:
                node.input[place] = ROWS
    declared = next(i for i in graph.input if i.name == IDS)
    batch, tokens = (d.dim_param or d.dim_value for d in declared.type.tensor_type.shape.dim)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(lookup.dtype))
    shape = [batch or "batch_size", tokens or "sequence_length", lookup.table.shape[1]]
    declared.CopyFrom(helper.make_tensor_value_info(ROWS, kind, shape))
    del graph.node[:]
    graph.node.extend(kept)
    file.forget_unused()
