"""An ONNX graph of a bundle, read back."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevlm.bundle import Bundle
from edgevlm.bundle.manifest import GraphEntry
from edgevlm.errors import BundleCorrupt, ExportError
from edgevlm.tensors import Array


class StoredGraph:
    """The nodes of a stored graph, and its weights, read when asked for.

    Args:
        bundle: that holds it.
        entry: what the manifest says of it.

    Raises:
        BundleCorrupt: it is no ONNX graph.
    """

    def __init__(self, bundle: Bundle, entry: GraphEntry) -> None:
        self.entry = entry
        self._bundle = bundle
        path = bundle.path(entry.file)
        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception as exc:  # protobuf raises whatever the bytes provoke
            raise BundleCorrupt(f"{path} is no ONNX graph: {exc}") from exc
        self.opset = _opset(model)
        self._model = model
        self.nodes = list(model.graph.node)
        self.functions = sorted(f.name for f in model.functions)
        self._tensors = {t.name: t for t in model.graph.initializer}

    def check_opset(self, oldest: int, newest: int) -> None:
        """Refuse what cannot be copied node by node.

        Raises:
            ExportError: an operator set out of this range, or functions.
        """
        if self.functions or not oldest <= self.opset <= newest:
            what = f"functions {self.functions}" if self.functions else f"operator set {self.opset}"
            raise ExportError(
                f"{self.entry.file} has {what}; graphs of the operator sets {oldest} to {newest} "
                "without functions are rewritten: export the checkpoint itself"
            )

    def has(self, name: str) -> bool:
        """True if there is a weight of this name."""
        return name in self._tensors

    def last_dimensions(self) -> dict[str, int]:
        """The size of the last dimension of every value where it is fixed."""
        inferred = onnx.shape_inference.infer_shapes(self._model).graph
        shapes = {v.name: v.type.tensor_type.shape.dim for v in inferred.value_info}
        return {
            name: int(dims[-1].dim_value)
            for name, dims in shapes.items()
            if dims and dims[-1].HasField("dim_value")
        }

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight.

        Raises:
            BundleCorrupt: there is none of this name.
        """
        return tuple(self._tensor(name).dims)

    def array(self, name: str) -> Array:
        """A weight; large ones are mapped, not read.

        Raises:
            BundleCorrupt: there is none of this name, or it reaches over the end of its file.
        """
        tensor = self._tensor(name)
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.asarray(numpy_helper.to_array(tensor))
        place = {e.key: e.value for e in tensor.external_data}
        folder = PurePosixPath(self.entry.file).parent
        path = self._bundle.path(str(folder / place["location"]))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        offset, size = int(place.get("offset", 0)), int(np.prod(tensor.dims)) * dtype.itemsize
        if offset + size > path.stat().st_size:
            raise BundleCorrupt(f"{path}: {name} ends behind the end of the file")
        return np.memmap(path, dtype, "r", offset, tuple(tensor.dims))

    def _tensor(self, name: str) -> TensorProto:
        if name not in self._tensors:
            raise BundleCorrupt(
                f"{self._bundle.path(self.entry.file)} has no weight called {name}; export the "
                "bundle again"
            )
        return self._tensors[name]


def opset_of(path: Path) -> int:
    """The operator set of an ONNX file."""
    return _opset(onnx.load(str(path), load_external_data=False))


def _opset(model: onnx.ModelProto) -> int:
    return max(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
