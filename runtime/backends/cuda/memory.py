"""A device with its stream, and arrays in its memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.backends.cuda.api import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    CudaApi,
    DeviceFacts,
)
from edgevlm.runtime.backends.cuda.dlpack import CPU, CUDA, capsule
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.tensors import Array


class Device:
    """One GPU, one stream on it, and what was allocated. Not thread-safe.

    Args:
        api: how CUDA is called.
        index: of the GPU, as DLPack wants it.
    """

    def __init__(self, api: CudaApi, index: int = 0) -> None:
        self.api = api
        self.facts: DeviceFacts = api.facts()
        self.stream = api.stream_create()
        self.dlpack = (CPU if isinstance(api, HostApi) else CUDA, index)

    def allocate(self, nbytes: int) -> Memory:
        """Device memory.

        Raises:
            BackendError: there is not enough; the message says how much there is.
        """
        try:
            return Memory(self, self.api.malloc(nbytes), nbytes)
        except BackendError as exc:
            free, total = self.api.memory_info()
            raise BackendError(
                f"{nbytes / 2**20:.0f} MiB of device memory: {free / 2**20:.0f} of "
                f"{total / 2**20:.0f} MiB are free: {exc}"
            ) from exc

    def array(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """A zeroed array of its own."""
        memory = self.allocate(max(1, math.prod(shape) * np.dtype(dtype).itemsize))
        self.api.fill(memory.address, 0, memory.nbytes, self.stream)
        return DeviceArray(memory, shape, dtype)

    def exchange(self, shape: tuple[int, ...], dtype: str) -> Exchange:
        """An array that the host writes or reads and the device sees."""
        return Exchange(self, shape, dtype)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self.api.stream_synchronize(self.stream)

    def close(self) -> None:
        """Release the stream; may be called twice."""
        if self.stream:
            self.api.stream_destroy(self.stream)
            self.stream = 0


class Memory:
    """A block of device memory; it outlives ``close`` while somebody holds it through DLPack."""

    def __init__(self, device: Device, address: int, nbytes: int) -> None:
        self.device = device
        self.address = address
        self.nbytes = nbytes
        self._holders = 1
        self._closed = False

    def hold(self) -> Callable[[], None]:
        """Keep the block until the function that is returned is called."""
        self._holders += 1
        return self._drop

    def _drop(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self.device.api.free(self.address)

    def close(self) -> None:
        """Give up the block; may be called twice."""
        if not self._closed:
            self._closed = True
            self._drop()


class DeviceArray:
    """A dense array in device memory, for any library that takes one.

    It speaks ``__cuda_array_interface__`` (version 3) and DLPack.

    Args:
        memory: where it lies.
        shape: row-major.
        dtype: numpy name.
        offset: bytes from the beginning of ``memory``.
    """

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: str, offset: int = 0) -> None:
        self.memory = memory
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        self.address = memory.address + offset
        if offset + self.nbytes > memory.nbytes:
            raise ContractError(f"{self.nbytes} bytes at {offset} in {memory.nbytes}")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.memory.device.stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.device.dlpack

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule; the device is waited for first, whatever stream the consumer uses."""
        del stream, max_version
        if copy or dl_device not in (None, self.memory.device.dlpack):
            raise BufferError("device arrays are handed over where they are, without a copy")
        self.memory.device.synchronize()
        return capsule(
            self.address,
            self.shape,
            self.dtype.name,
            self.memory.device.dlpack,
            self.memory.hold(),
        )

    def put(self, value: Array) -> None:
        """Copy a host array in, and wait for it.

        Raises:
            ContractError: another shape or dtype.
        """
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ContractError(
                f"{self.dtype} {self.shape} wanted, got {value.dtype} {value.shape}"
            )
        exchange = self.memory.device.exchange(self.shape, self.dtype.name)
        exchange.host[...] = value
        exchange.to(self.address)
        self.memory.device.synchronize()
        exchange.close()

    def get(self) -> Array:
        """A copy on the host."""
        device = self.memory.device
        exchange = device.exchange(self.shape, self.dtype.name)
        exchange.take(self.address)
        device.synchronize()
        value: Array = exchange.host.copy()
        exchange.close()
        return value

    def copy_rows(self, source: int, spans: list[tuple[int, int, int]]) -> None:
        """Enqueue copies on the device: ``(offset here, offset there, bytes)`` each."""
        device = self.memory.device
        for here, there, nbytes in spans:
            device.api.copy(
                self.address + here, source + there, nbytes, DEVICE_TO_DEVICE, device.stream
            )


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
        self._page_locked = device.api.host_alloc(room)
        window = (ctypes.c_uint8 * room).from_address(self._page_locked)
        flat = np.ctypeslib.as_array(window)[: self.nbytes]
        self.host: Array = flat.view(dtype).reshape(shape)
        self._memory: Memory | None = None
        if device.facts.integrated:
            self.address = device.api.host_pointer(self._page_locked)
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
        api.copy(address, self._page_locked, self.nbytes, HOST_TO_DEVICE, stream)

    def take(self, address: int) -> None:
        """Enqueue a copy from device memory to the host side."""
        api, stream = self._device.api, self._device.stream
        api.copy(self._page_locked, address, self.nbytes, DEVICE_TO_HOST, stream)

    def close(self) -> None:
        """Release both sides; ``host`` must not be read any more. May be called twice."""
        if self._page_locked:
            self._device.api.host_free(self._page_locked)
            self._page_locked = 0
            if self._memory is not None:
                self._memory.close()
