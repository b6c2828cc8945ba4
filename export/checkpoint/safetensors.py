"""One ``.safetensors`` file, memory-mapped."""

from __future__ import annotations

import json
import math
import struct
from operator import index
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import CheckpointError
from edgevlm.tensors import Array, Float32

_HEADER_CAP = 100 << 20
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


class SafetensorsFile:
    """The tensors of one ``.safetensors`` file, mapped and never copied until asked for.

    Args:
        path: the file.

    Raises:
        CheckpointError: truncated, a header that does not parse, or a tensor whose bytes are not
            inside the file.

    Source: the safetensors format, README section "Format".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > min(_HEADER_CAP, size - 8):
                raise CheckpointError(f"{path} is truncated or not a safetensors file")
            try:
                header = json.loads(file.read(length))
            except (ValueError, RecursionError) as exc:
                raise CheckpointError(f"{path} has a damaged header: {exc}") from exc
        if not isinstance(header, dict):
            raise CheckpointError(f"{path} has a damaged header: no object")
        metadata = header.pop("__metadata__", None)
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        self.tensors: dict[str, tuple[str, tuple[int, ...], int]] = {}
        for name, entry in header.items():
            try:
                start, end = map(index, entry["data_offsets"])
                shape = tuple(map(index, entry["shape"]))
                dtype = str(entry["dtype"])
            except (KeyError, TypeError, ValueError) as exc:
                raise CheckpointError(f"{path}: the entry of {name} is damaged") from exc
            if not 0 <= start <= end <= size - 8 - length:
                raise CheckpointError(f"{path} is truncated: {name} ends behind the file")
            if min(shape, default=0) < 0:
                raise CheckpointError(f"{path}: {name} has the shape {shape}")
            if dtype in _DTYPES:
                want = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
                if want != end - start:
                    raise CheckpointError(f"{path}: {name} has {end - start} bytes, not {want}")
            self.tensors[name] = (dtype, shape, 8 + length + start)

    def get(self, name: str) -> Float32:
        """One tensor as float32; float32 ones are a read-only map of the file."""
        dtype, shape, _ = self.tensors[name]
        raw = self._mapped(name)
        if dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw, np.float32).reshape(shape)

    def integers(self, name: str) -> NDArray[np.int32]:
        """One tensor of packed bits, a read-only map of the file.

        Raises:
            CheckpointError: its dtype is not int32.
        """
        dtype, shape, _ = self.tensors[name]
        if dtype != "I32":
            raise CheckpointError(f"{self.path}: {name} has the dtype {dtype} and not I32")
        return np.asarray(self._mapped(name), np.int32).reshape(shape)

    def _mapped(self, name: str) -> Array:
        dtype, shape, offset = self.tensors[name]
        if dtype not in _DTYPES:
            raise CheckpointError(f"{self.path}: {name} has the dtype {dtype}, which is not read")
        return np.memmap(self.path, _DTYPES[dtype], "r", offset, (math.prod(shape),))
