"""A device with its stream, and arrays in its memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.backends.cuda.api import (
    DEVICE_TO_DEVICE,
    CudaApi,
    DeviceFacts,
)
from edgevlm.runtime.backends.cuda.dlpack import CPU, CUDA, capsule
from edgevlm.runtime.backends.cuda.exchange import Exchange
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
            raise type(exc)(
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

    def clear(self) -> None:
        """Enqueue setting it to zero."""
        device = self.memory.device
        device.api.fill(self.address, 0, self.nbytes, device.stream)

    def get(self) -> Array:
        """A copy on the host."""
        device = self.memory.device
        exchange = device.exchange(self.shape, self.dtype.name)
        exchange.take(self.address)
        device.synchronize()
        value: Array = exchange.host.copy()
        exchange.close()
        return value

    def place_rows(self, source: int, rows: int, at: int) -> None:
        """Enqueue the copy of rows from device memory into the second last dimension.

        Args:
            source: address of ``(..., rows, width)``, where this array is ``(..., more, width)``.
            rows: how many.
            at: this array's row that the first one goes to.
        """
        device, (more, width) = self.memory.device, self.shape[-2:]
        if at + rows > more:
            raise ContractError(f"{rows} rows at {at} of {more}")
        row = width * self.dtype.itemsize
        device.api.copy_2d(
            (self.address + at * row, more * row),
            (source, rows * row),
            rows * row,
            math.prod(self.shape[:-2]),
            device.stream,
        )

    def copy_from(self, source: int) -> None:
        """Enqueue a copy of the whole from elsewhere on the device."""
        device = self.memory.device
        device.api.copy(self.address, source, self.nbytes, DEVICE_TO_DEVICE, device.stream)
