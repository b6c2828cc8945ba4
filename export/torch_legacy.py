"""Read tensors from torch's legacy (non-zip) ``.pth`` file, executing nothing.

Layout of the file: three pickles (magic number, protocol version, system info), the pickled state
dict whose storages are persistent ids ``("storage", type, key, device, count)``, the pickled list
of storage keys, then per key an 8-byte count and the raw little-endian values. The unpickler here
admits exactly an ``OrderedDict``, the tensor rebuild function and the storage type names, each
mapped to a stand-in of ours; anything else is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.tensors import Array

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8", "HalfStorage": "<f2"}


@dataclass(slots=True)
class _Storage:
    dtype: str
    key: str
    count: int


@dataclass(slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: str


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise pickle.UnpicklingError("an unknown persistent id")
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageType):
            raise pickle.UnpicklingError("an unknown storage type")
        return _Storage(kind.dtype, str(key), int(count))


def read_state_dict(path: Path) -> dict[str, Array]:
    """The tensors of a legacy ``.pth``, by name.

    Raises:
        CheckpointError: missing, truncated, not this format, or holding anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    data = path.read_bytes()
    stream = io.BytesIO(data)
    try:
        magic, protocol, _system = (_TensorsOnly(stream).load() for _ in range(3))
        if magic != MAGIC or protocol != PROTOCOL:
            raise CheckpointError(f"{path} is not a torch file in the legacy format")
        state = _TensorsOnly(stream).load()
        keys = _TensorsOnly(stream).load()
        return _fill(state, keys, data, stream.tell())
    except CheckpointError:
        raise
    except Exception as exc:  # a pickle can fail in every way there is
        raise CheckpointError(f"{path} is truncated or holds more than tensors: {exc}") from exc


def _fill(state: Any, keys: Any, data: bytes, at: int) -> dict[str, Array]:
    if not isinstance(state, dict):
        raise pickle.UnpicklingError("the file holds no state dict")
    tensors = {str(n): t for n, t in state.items() if isinstance(t, _Tensor)}
    dtypes = {t.storage.key: t.storage.dtype for t in tensors.values()}
    storages: dict[str, Array] = {}
    for key in map(str, keys):
        count = int.from_bytes(data[at : at + 8], "little")
        dtype = np.dtype(dtypes[key])
        end = at + 8 + count * dtype.itemsize
        if end > len(data):
            raise pickle.UnpicklingError("the values end behind the file")
        storages[key] = np.frombuffer(data, dtype, count, at + 8)
        at = end
    return {name: _view(t, storages[t.storage.key]) for name, t in tensors.items()}


def _view(tensor: _Tensor, flat: Array) -> Array:
    last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True)
    )
    reaches = last >= flat.size or math.prod(tensor.shape) > flat.size
    if min((tensor.offset, *tensor.strides, *tensor.shape)) < 0 or reaches:
        raise pickle.UnpicklingError("a tensor reaches over its storage")
    steps = tuple(s * flat.itemsize for s in tensor.strides)
    view: Array = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, steps, writeable=False
    )
    return np.array(view)
