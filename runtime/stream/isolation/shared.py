"""Arrays in memory that two processes share: pictures one way, what became of them the other way.

The memory has no name: it is gone with the last process that has it open, however that one ends.
It can only grow, so that reading what was measured a moment ago never faults.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgevlm.errors import BackendError, ContractError
from edgevlm.tensors import Array

MOST_BYTES = 512 << 20  # of one message: a picture of the largest size is 192 MB
_ALIGN = 64
_ADD_SEALS, _SEAL_SEAL, _SEAL_SHRINK = 1033, 1, 2  # <linux/fcntl.h>

DType = Literal["uint8", "int32", "int64", "float16", "float32"]


class Placed(BaseModel):
    """Where an array lies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: int = Field(ge=0, description="bytes from the beginning")
    dtype: DType
    shape: tuple[int, ...] = Field(max_length=8)


class SharedArrays:
    """Written by one process, read by another, a message at a time.

    Args:
        descriptor: of memory that the other process made; None makes it.

    Raises:
        BackendError: this system has no such memory.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._map: mmap.mmap | None = None
        if descriptor is not None:
            self.descriptor = descriptor
            return
        try:
            flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
            self.descriptor = os.memfd_create("edgevlm", flags)
            fcntl.fcntl(self.descriptor, _ADD_SEALS, _SEAL_SHRINK | _SEAL_SEAL)
        except (AttributeError, OSError) as exc:
            raise BackendError(f"no memory can be shared with a model's process: {exc}") from exc

    def write(self, arrays: Sequence[Array]) -> list[Placed]:
        """Lay arrays down, over those of the last message.

        Raises:
            ContractError: more than ``MOST_BYTES``, or a type that has no place here.
        """
        places, end = [], 0
        for array in arrays:
            if array.dtype.name not in get_args(DType):
                raise ContractError(f"an array of {array.dtype} cannot go to a model's process")
            places.append(Placed(at=end, dtype=array.dtype.name, shape=array.shape))
            end += -(-array.nbytes // _ALIGN) * _ALIGN
        if end > MOST_BYTES:
            raise ContractError(
                f"the pictures of one question take {end} bytes; the cap is {MOST_BYTES}"
            )
        if end > os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, end)
        for place, array in zip(places, arrays, strict=True):
            np.copyto(self._view(place), array)
        return places

    def read(self, place: Placed) -> Array:
        """An array as it lies there: what is written next changes it.

        Raises:
            ContractError: it does not lie inside the memory.
        """
        view = self._view(place)
        view.flags.writeable = False
        return view

    def _view(self, place: Placed) -> Array:
        dtype = np.dtype(place.dtype)
        count = 1
        for extent in place.shape:
            if extent < 0:
                raise ContractError(f"an array of shape {place.shape}")
            count *= extent
        end = place.at + count * dtype.itemsize
        size = os.fstat(self.descriptor).st_size
        if end > size or place.at % dtype.itemsize:
            raise ContractError(f"an array up to byte {end} of {size}")
        if count == 0:
            return np.empty(place.shape, dtype)
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self.descriptor, size)  # views keep the old one
        flat = np.frombuffer(self._map, dtype, count, place.at)
        return flat.reshape(place.shape)

    @property
    def size(self) -> int:
        """Bytes; never fewer than before."""
        return os.fstat(self.descriptor).st_size if self.descriptor >= 0 else 0

    def close(self) -> None:
        """Give the memory back, once no array of it is in use; may be called twice."""
        self._map = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
