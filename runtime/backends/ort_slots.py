"""Tensors that ONNX Runtime binds: host memory shared with numpy, or a device's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.tensors import Array

Shape = tuple[int, ...]


class Slot(Protocol):
    """One bound tensor."""

    value: Any
    shape: Shape

    def write(self, value: Array) -> None:
        """Copy a host array in."""
        ...

    def read(self) -> Array:
        """Its content on the host, valid until the next run."""
        ...


class HostSlot:
    """A numpy array and the OrtValue over the same memory."""

    def __init__(self, ort: Any, shape: Shape, dtype: str) -> None:
        self.shape = shape
        self._array: Array = np.zeros(shape, dtype)
        self.value = ort.OrtValue.ortvalue_from_numpy(self._array)

    def write(self, value: Array) -> None:
        """Copy a host array in; the slot's own needs no copying."""
        if value is not self._array:
            self._array[...] = value

    def read(self) -> Array:
        """The array itself."""
        return self._array


class DeviceSlot:
    """An OrtValue in a device's memory, which begins with zeros."""

    def __init__(self, place: Place, shape: Shape, dtype: str) -> None:
        self.shape = shape
        self._dtype = np.dtype(dtype)
        self.nbytes = math.prod(shape) * self._dtype.itemsize
        self.value = place.ort.OrtValue.ortvalue_from_shape_and_type(
            shape, self._dtype.type, **place.where()
        )
        self.write(np.zeros(shape, self._dtype))

    def write(self, value: Array) -> None:
        """Copy a host array in."""
        self.value.update_inplace(np.ascontiguousarray(value, self._dtype))

    def read(self) -> Array:
        """A copy on the host."""
        found: Array = self.value.numpy()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a provider wants its tensors.

    Args:
        ort: the module ``onnxruntime``.
        device: ONNX Runtime's name of the device.
        index: of the device.
        shared: its memory is the host's, and numpy arrays are bound as they are.
        memory: of a plug-in provider's device, in place of ``device``.
        captures: CUDA graphs are on: every run says which one it is.
        apart: the provider compiles graphs whole and may read a state late: only keys and values
            are updated in place, other states are copied back after the call.
        cuda: copies rows on the device; None: they go by the host.
    """

    ort: Any
    device: str = "cpu"
    index: int = 0
    shared: bool = False
    memory: Any = None
    captures: bool = False
    apart: bool = False
    cuda: Device | None = None

    def where(self) -> dict[str, Any]:
        """As ``OrtValue.ortvalue_from_shape_and_type`` takes it."""
        if self.memory is not None:
            return {"memory_info": self.memory}
        return {"device_type": self.device, "device_id": self.index}

    def slot(self, shape: Shape, dtype: str, *, host: bool) -> Slot:
        """A tensor of zeros."""
        if host or self.shared:
            return HostSlot(self.ort, shape, dtype)
        return DeviceSlot(self, shape, dtype)
