"""DLPack capsules over device memory, made with ctypes.

Source: dlpack.h of the DLPack project (https://github.com/dmlc/dlpack), structs of version 0.x,
which every consumer takes: ``DLManagedTensor`` in a capsule called ``dltensor``. The consumer
renames the capsule and calls the deleter when it is done; a capsule that nobody took calls it
itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

CPU, CUDA = 1, 2  # DLDeviceType
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLDataTypeCode of a numpy kind


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_NAME = b"dltensor"  # kept: a capsule points to its name
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_valid: Any = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer: Any = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

# Struct, shape and what is to be called at the end, for as long as somebody holds the tensor.
_held: dict[int, tuple[_Managed, Any, Callable[[], None]]] = {}


def _delete(address: int) -> None:
    held = _held.pop(address, None)
    if held is not None:
        held[2]()


def _unused(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # a consumer would have renamed it
        _delete(_pointer(capsule, _NAME))


_deleter, _destructor = _Deleter(_delete), _Destructor(_unused)


def capsule(
    address: int,
    shape: tuple[int, ...],
    dtype: str,
    device: tuple[int, int],
    released: Callable[[], None],
) -> object:
    """A capsule over dense memory.

    Args:
        address: of the first value.
        shape: row-major.
        dtype: numpy name.
        device: DLPack's device type and index.
        released: called once, when the last holder is gone.
    """
    kind = np.dtype(dtype)
    dimensions = (ctypes.c_int64 * len(shape))(*shape)
    managed = _Managed()
    tensor = managed.tensor
    tensor.data, tensor.ndim, tensor.shape = address, len(shape), dimensions
    tensor.device_type, tensor.device_id = device
    tensor.code, tensor.bits, tensor.lanes = _CODES[kind.kind], kind.itemsize * 8, 1
    tensor.strides, tensor.byte_offset = None, 0
    managed.deleter = _deleter
    key = ctypes.addressof(managed)
    _held[key] = (managed, dimensions, released)
    made: object = _new(key, _NAME, _destructor)
    return made
