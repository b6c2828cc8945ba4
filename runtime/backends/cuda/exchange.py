"""Host memory that a device reads and writes."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

import numpy as np

from edgevlm.runtime.backends.cuda.api import DEVICE_TO_HOST, HOST_TO_DEVICE
from edgevlm.tensors import Array

if TYPE_CHECKING:
    from edgevlm.runtime.backends.cuda.memory import Device, Memory


class Exchange:
    """Page-locked host memory, and where the device finds its content.

    On a GPU of its own the content is copied to device memory and back. A GPU that shares its
    memory with the CPU reads and writes the mapped host memory itself, and nothing is copied.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str) -> None:
        self._device = device
        self.shape = shape
        self.nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        room = max(1, self.nbytes)
        self.host_address = device.api.host_alloc(room)
        window = (ctypes.c_uint8 * room).from_address(self.host_address)
        flat = np.ctypeslib.as_array(window)[: self.nbytes]
        self.host: Array = flat.view(dtype).reshape(shape)
        self._memory: Memory | None = None
        if device.facts.integrated:
            self.address = device.api.host_pointer(self.host_address)
        else:
            self._memory = device.allocate(room)
            self.address = self._memory.address

    def upload(self) -> None:
        """Enqueue what the host wrote; nothing where the device reads it in place."""
        if self._memory is not None:
            self.to(self.address)

    def download(self) -> None:
        """Enqueue what the device wrote; nothing where it wrote in place."""
        if self._memory is not None:
            self.take(self.address)

    def to(self, address: int) -> None:
        """Enqueue a copy from the host side to device memory."""
        api, stream = self._device.api, self._device.stream
        api.copy(address, self.host_address, self.nbytes, HOST_TO_DEVICE, stream)

    def take(self, address: int) -> None:
        """Enqueue a copy from device memory to the host side."""
        api, stream = self._device.api, self._device.stream
        api.copy(self.host_address, address, self.nbytes, DEVICE_TO_HOST, stream)

    def close(self) -> None:
        """Release both sides; ``host`` must not be read any more. May be called twice."""
        if self.host_address:
            self._device.api.host_free(self.host_address)
            self.host_address = 0
            if self._memory is not None:
                self._memory.close()
