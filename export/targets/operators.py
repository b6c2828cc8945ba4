"""Which operators a target takes, checked before anything is compiled.

The tables beside this module say it as data, each with the reason for what it refuses. They are
checked on the graph alone, so a laptop finds what a board's importer would refuse an hour later.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from pydantic import Field

from edgevlm.bundle.engines import Library, Platform
from edgevlm.bundle.images import Strict
from edgevlm.errors import BackendUnavailable, UnsupportedOperator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Limit(Strict):
    """What an operator that is taken must not have.

    Args:
        attribute: that must have none of the values ``refuse``.
        inputs: that may be given at most.
        outputs: that may be used at most.
        zero_input: place of an input that must be a constant of zeros.
    """

    operator: str
    reason: str
    attribute: str | None = None
    refuse: tuple[int | str, ...] = ()
    inputs: int | None = None
    outputs: int | None = None
    zero_input: int | None = None

    def breaks(self, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
        """True if this node is over the limit."""
        for found in node.attribute:
            if found.name == self.attribute:
                value = onnx.helper.get_attribute_value(found)
                text = value.decode() if isinstance(value, bytes) else value
                return text in self.refuse
        if self.zero_input is not None:
            name = node.input[self.zero_input] if len(node.input) > self.zero_input else ""
            return bool(name) and (name not in constants or not _is_zero(constants[name]))
        return (self.inputs is not None and any(node.input[self.inputs :])) or (
            self.outputs is not None and any(node.output[self.outputs :])
        )


class OperatorTable(Strict):
    """One importer's operators.

    Args:
        title: for messages.
        since: first version of the library, ``from`` in the file.
        below: first version that it is not true of.
        opset: highest version of the standard operators.
        source: where this is known from.
        operators: names, separated by spaces.
        refused: operator -> why it is not among them.
        types: element type of a constant -> why it is refused.
    """

    title: str
    library: Library
    since: str = Field(alias="from")
    below: str | None = None
    opset: int
    source: str
    operators: str
    refused: dict[str, str] = Field(default_factory=dict)
    types: dict[str, str] = Field(default_factory=dict)
    limits: tuple[Limit, ...] = ()

    def covers(self, platform: Platform) -> bool:
        """True for the versions that the table is about."""
        version = _numbers(platform.version)
        return (
            platform.library == self.library
            and _numbers(self.since) <= version
            and (self.below is None or version < _numbers(self.below))
        )

    def objections(self, model: onnx.ModelProto) -> Iterator[str]:
        """Every node or constant that is refused, with the reason."""
        known = set(self.operators.split())
        for used in model.opset_import:
            if used.domain in ("", "ai.onnx") and used.version > self.opset:
                yield f"opset {used.version} is newer than {self.opset}, the last that it knows"
        constants = {c.name: c for c in _constants(model.graph)}
        for name, constant in constants.items():
            kind = onnx.TensorProto.DataType.Name(constant.data_type)
            if kind in self.types:
                yield f"{name} is {kind}: {self.types[kind]}"
        for node in _nodes(model.graph):
            place = f"{node.name or node.output[0]} ({node.op_type})"
            if node.domain not in ("", "ai.onnx"):
                yield f"{place} is an operator of {node.domain}, which only that runtime knows"
            elif node.op_type not in known:
                yield f"{place}: {self.refused.get(node.op_type, 'no such operator there')}"
            else:
                for limit in self.limits:
                    if limit.operator == node.op_type and limit.breaks(node, constants):
                        yield f"{place}: {limit.reason}"


_ANY_TENSORRT = {"library": "tensorrt", "version": "10.3"}


@cache
def tables() -> tuple[OperatorTable, ...]:
    """Every table that ships."""
    folder = resources.files("edgevlm.export.targets")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(OperatorTable.model_validate(tomllib.loads(f.read_text("utf-8"))) for f in files)


def table_for(platform: Platform) -> OperatorTable:
    """The table of this library's importer.

    Raises:
        BackendUnavailable: the library is too old.
    """
    library, asked = platform.library, platform
    if library == "onnxruntime":  # which TensorRT 10 it finds is not known before it runs
        library, asked = "tensorrt", platform.model_copy(update=_ANY_TENSORRT)
    for table in tables():
        if table.covers(asked):
            return table
    oldest = min((t for t in tables() if t.library == library), key=lambda t: _numbers(t.since))
    raise BackendUnavailable(
        f"{library} {asked.version} is too old: {oldest.title} is the first that edgevlm builds "
        "for; update JetPack, or the package"
    )


def check_operators(path: Path, name: str, platform: Platform) -> None:
    """Refuse a graph that the target's importer would refuse, or misread.

    Args:
        path: the ONNX file.
        name: of the graph, for the message.
        platform: whose importer.

    Raises:
        UnsupportedOperator: naming the first node and the reason, and how many more there are.
        BackendUnavailable: the library is too old.
    """
    table = table_for(platform)
    found = list(table.objections(onnx.load(str(path), load_external_data=False)))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UnsupportedOperator(f"{name}: {table.title} refuses {found[0]}{more}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for inner in _graphs(graph) for node in inner.node)


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for inner in _graphs(graph):
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    named = onnx.TensorProto()
                    named.CopyFrom(attribute.t)
                    named.name = node.output[0]
                    yield named


def _is_zero(constant: onnx.TensorProto) -> bool:
    """True for zeros; weights in a data file are never zero points of ours."""
    if constant.data_location == onnx.TensorProto.EXTERNAL:
        return False
    array: Any = numpy_helper.to_array(constant)
    return not array.any()
