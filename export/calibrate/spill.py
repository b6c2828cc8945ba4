"""Quantised matrices on disk, out of memory until they are written into the graph."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SpilledBlocks:
    """A matrix in 4 bits that lies in a file.

    Args:
        file: of all of them; it has no name, and is gone with the last of them.
        values: uint8 ``(out, blocks, block_size / 2)``, low nibble first.
        scales: float32 ``(out, blocks)``.
        zeros: uint8 ``(out, blocks)``, or None.
    """

    file: Spill
    values: _Kept
    scales: _Kept
    zeros: _Kept | None

    def unpacked(self) -> QuantBlocks:
        """The blocks as they were."""
        packed = self.file.read(self.values)
        pairs = np.stack([packed & 15, packed >> 4], axis=-1)
        return QuantBlocks(
            bits=4,
            values=pairs.reshape(*packed.shape[:2], -1),
            scales=self.file.read(self.scales),
            zeros=None if self.zeros is None else self.file.read(self.zeros),
            rounded=True,
        )


class Spill:
    """A file without a name that arrays are appended to.

    Args:
        folder: on whose disk it lies.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._end = 0

    def keep(self, blocks: QuantBlocks) -> SpilledBlocks:
        """Write a matrix of 4 bits."""
        zeros = None if blocks.zeros is None else self._write(blocks.zeros)
        values, scales = self._write(blocks.packed_values()), self._write(blocks.scales)
        return SpilledBlocks(self, values, scales, zeros)

    def _write(self, value: Array) -> _Kept:
        kept = _Kept(self._end, value.dtype.str, value.shape)
        self._file.seek(kept.offset)
        self._file.write(np.ascontiguousarray(value).data)
        self._end += value.nbytes
        return kept

    def read(self, kept: _Kept) -> Array:
        """An array, as it was."""
        self._file.seek(kept.offset)
        count = int(np.prod(kept.shape))
        flat = np.frombuffer(self._file.read(count * np.dtype(kept.dtype).itemsize), kept.dtype)
        return flat.reshape(kept.shape)
