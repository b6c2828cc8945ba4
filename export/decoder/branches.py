"""The decoder once more, for several answers side by side: ``decoder.branches.onnx``.

Rows of all answers go through the matrices together; each answer attends with a GroupQueryAttention
of its own, to a cache of its own::

    qkv ──┬── rows of branch 0 ── GroupQueryAttention ──┐
          ├── rows of branch 1 ── GroupQueryAttention ──┼── kept rows ── o_proj
          └── ...                                      ─┘

A batch axis would not do: the operator refuses a batch of several rows behind a past, and one row
alone takes another kernel, which rounds differently. Here a branch's lone row is there twice, as in
the decoder itself. The weights are the decoder's own, in its data file.
"""

from __future__ import annotations

import onnx
from onnx import helper

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import BranchesEntry
from edgevlm.export.decoder.gqa import HEAD_STEP
from edgevlm.export.graph import GraphBuilder

BRANCHES = 4
FILE = "decoder.branches.onnx"
_ATTENTION = "GroupQueryAttention"
_OF_ONE = ("seqlens_k", "total_sequence_length", "num_logits")  # inputs of a single sequence


def has_branches(spec: DecoderSpec) -> bool:
    """True if nothing but attention ties a row to a position or to its neighbours."""
    return (
        not spec.prefix_attention
        and not spec.conv_layers
        and spec.mrope_section is None
        and not spec.deepstack_levels
        and spec.head_dim % HEAD_STEP == 0
    )


def branched(decoder: GraphBuilder, count: int = BRANCHES) -> tuple[GraphBuilder, BranchesEntry]:
    """The same decoder for ``count`` sequences.

    Args:
        decoder: in the lowering ``ort-gqa``, finished, of a spec that ``has_branches``.
        count: sequences in a call.

    Returns:
        the graph, to be saved beside the decoder, and what the manifest says of it.
    """
    graph = decoder.derived("branches", lambda node: _replaced(node, count))
    for entry in decoder.inputs:
        if entry.name.startswith("past_key_values."):
            for b in range(count):
                name = _of(b, entry.name)
                graph.input(name, entry.dtype, entry.shape, entry.meaning)
        elif entry.name not in _OF_ONE:
            graph.input(entry.name, entry.dtype, entry.shape, "rows of all branches")
    for b in range(count):
        graph.input(f"rows.{b}", "int64", (f"rows.{b}",), "which of the rows are this branch's")
        graph.input(
            f"seqlens_k.{b}", "int32", (1,), "tokens in its cache after this call, less one"
        )
        graph.input(f"total.{b}", "int32", (), "its tokens after this call")
    graph.input("kept", "int64", ("tokens",), "row -> its place among the rows of all branches")
    graph.input("logit_rows", "int64", ("num_logits",), "rows whose logits are wanted")
    for entry in decoder.outputs:
        if entry.name == "logits":
            graph.output(entry.name, entry.dtype, entry.shape, entry.meaning)
        elif entry.name.startswith("present."):
            for b in range(count):
                graph.output(_of(b, entry.name), entry.dtype, entry.shape, entry.meaning)
    return graph, BranchesEntry(file=FILE, count=count)


def _of(branch: int, name: str) -> str:
    kind, rest = name.split(".", 1)
    return f"{kind}.{branch}.{rest}"


def _replaced(node: onnx.NodeProto, count: int) -> list[onnx.NodeProto]:
    if node.op_type == _ATTENTION:
        return _attention(node, count)
    if node.op_type == "Neg" and node.input[0] == "num_logits":
        return []
    if node.op_type == "Slice":  # the rows whose logits are wanted: see the decoder's wanted_rows
        return [_gather(node.input[0], "logit_rows", node.name, node.output[0])]
    if node.output[0].startswith("hidden."):  # for the certificate
        return []
    return [node]


def _attention(node: onnx.NodeProto, count: int) -> list[onnx.NodeProto]:
    made, outputs = [], []
    for b in range(count):
        place = f"{node.name}/{b}"
        own = onnx.NodeProto()
        own.CopyFrom(node)
        own.name = place
        for i, given in enumerate(node.input):
            if i < 3 and given:  # queries, keys and values
                made.append(_gather(given, f"rows.{b}", f"{place}/rows.{i}", f"{place}/rows.{i}"))
                own.input[i] = f"{place}/rows.{i}"
            elif given.startswith("past_key_values."):
                own.input[i] = _of(b, given)
            elif given == "seqlens_k":
                own.input[i] = f"seqlens_k.{b}"
            elif given == "total_sequence_length":
                own.input[i] = f"total.{b}"
        own.output[:] = [f"{place}/output_0", *(_of(b, name) for name in node.output[1:])]
        made.append(own)
        outputs.append(own.output[0])
    together = f"{node.name}/all"
    made.append(helper.make_node("Concat", outputs, [together], name=together, axis=1))
    made.append(_gather(together, "kept", f"{node.name}/kept", node.output[0]))
    return made


def _gather(value: str, indices: str, name: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Gather", [value, indices], [output], name=name, axis=1)
