"""An ONNX model from elsewhere: read without its weights' data, written as a graph of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgevlm.bundle.manifest import TensorEntry
from edgevlm.errors import CheckpointError
from edgevlm.export.graph import INLINE_BYTES, DataFile
from edgevlm.tensors import DTYPES, Array


class ModelFile:
    """A model, its large weights still where they lie.

    Args:
        path: the ``.onnx`` file; external data must lie in the same folder.

    Raises:
        CheckpointError: not a model, or data that is missing, outside the folder or too short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.model = onnx.load(path, load_external_data=False)
        except Exception as exc:  # protobuf raises whatever the bytes provoke
            raise CheckpointError(f"{path} is no ONNX model: {exc}") from exc
        self.graph: Any = self.model.graph
        if not self.graph.node:
            raise CheckpointError(f"{path} is no ONNX model: it has no nodes")

    @property
    def opset(self) -> int:
        """Of the standard domain."""
        return next((i.version for i in self.model.opset_import if i.domain in ("", "ai.onnx")), 1)

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The external data files that its weights name."""
        names = {_place(t)["location"] for t in self._tensors() if _external(t)}
        return tuple(self._data_path(name) for name in sorted(names))

    def weight(self, name: str) -> Array | None:
        """A weight by name; None if there is none."""
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return self._value(tensor)
        return None

    def forget_unused(self) -> None:
        """Remove weights that no node takes."""
        used = {name for node in all_nodes(self.graph) for name in node.input}
        used |= {output.name for output in self.graph.output}
        kept = [t for t in self.graph.initializer if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def free(self, *names: str) -> None:
        """Give values inside the graph that have these names other ones."""
        fresh = {name: f"imported/{name}" for name in names}
        for node in all_nodes(self.graph):
            for values in (node.input, node.output):
                for place, name in enumerate(values):
                    values[place] = fresh.get(name, name)
        for tensor in self.graph.initializer:
            tensor.name = fresh.get(tensor.name, tensor.name)
        del self.graph.value_info[:]

    def inputs(self) -> tuple[TensorEntry, ...]:
        """What a caller gives: inputs that are no weights."""
        weights = {t.name for t in self.graph.initializer}
        return tuple(_entry(self.path, v) for v in self.graph.input if v.name not in weights)

    def outputs(self) -> tuple[TensorEntry, ...]:
        """What it gives."""
        return tuple(_entry(self.path, v) for v in self.graph.output)

    def save(self, path: Path) -> None:
        """Write the graph, its large weights page-aligned in ``path`` + ``.data``."""
        with DataFile(path.with_name(f"{path.name}.data")) as data:
            for tensor in self._tensors():
                if tensor.data_type != TensorProto.STRING:
                    self._move(tensor, data)
        path.write_bytes(self.model.SerializeToString(deterministic=True))

    def relocate(self, name: str) -> None:
        """Say that all external data lies in one file of this name."""
        for tensor in self._tensors():
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = name

    def _move(self, tensor: Any, data: DataFile) -> None:
        raw = self._raw(tensor)
        if not _external(tensor) and len(raw) <= INLINE_BYTES:
            return
        segment = data.write(np.frombuffer(raw, np.uint8))
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
            tensor.ClearField(field)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", segment.file),
            ("offset", str(segment.offset)),
            ("length", str(segment.nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)

    def _tensors(self) -> Iterator[Any]:
        yield from self.graph.initializer
        for node in all_nodes(self.graph):
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield from attribute.g.initializer

    def _value(self, tensor: Any) -> Array:
        if not _external(tensor):
            return np.asarray(numpy_helper.to_array(tensor))
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        return np.frombuffer(self._raw(tensor), dtype).reshape(tuple(tensor.dims))

    def _raw(self, tensor: Any) -> bytes:
        if not _external(tensor):
            return bytes(tensor.raw_data) or numpy_helper.to_array(tensor).tobytes()
        place = _place(tensor)
        with self._data_path(place["location"]).open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            length = int(place.get("length", -1))
            raw = file.read(length)
        if length >= 0 and len(raw) != length:
            raise CheckpointError(
                f"{self.path}: the data of {tensor.name} reaches over the end of "
                f"{place['location']}: copy it again"
            )
        return raw

    def _data_path(self, name: str) -> Path:
        path = self.path.parent / name
        if Path(name).name != name:
            raise CheckpointError(f"{self.path} names the data file {name!r} outside its folder")
        if not path.is_file():
            raise CheckpointError(f"{self.path} names the data file {name!r}, which is not there")
        return path


def all_nodes(graph: Any) -> Iterator[Any]:
    """Every node, those of branches and loop bodies too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def _external(tensor: Any) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _place(tensor: Any) -> dict[str, str]:
    place = {e.key: e.value for e in tensor.external_data}
    if "location" not in place:
        raise CheckpointError(f"the weight {tensor.name} says it lies elsewhere, and not where")
    return place


def _entry(path: Path, value: Any) -> TensorEntry:
    kind = value.type.tensor_type
    if not kind.elem_type:
        raise CheckpointError(f"{path}: {value.name} is no tensor")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    if dtype not in DTYPES:
        raise CheckpointError(f"{path}: {value.name} is {dtype}; known are {', '.join(DTYPES)}")
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}.{n}"
        for n, d in enumerate(kind.shape.dim)
    )
    return TensorEntry(name=value.name, dtype=dtype, shape=shape)
