"""Walk over the header of a GGUF file before the gguf package believes its counts.

The package's reader takes every count at its word: one flipped bit in an array's length makes it
loop for days. Here every step is held against the end of the file first.

Source: the GGUF specification, "File Structure".
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

MAGIC = 0x46554747  # "GGUF"
_STRING, _ARRAY = 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MAX_ARRAY = 1 << 22  # the largest vocabulary has some hundred thousand tokens
_MAX_NAME = 1 << 16
_MAX_DIMS = 4


def check_header(path: Path) -> None:
    """Raise ValueError unless the counts in the header fit the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(data)
        magic, version = walk.number("<I"), walk.number("<I")
        if magic != MAGIC or version not in (2, 3):
            raise ValueError(f"magic {magic:#x}, version {version}")
        tensors, pairs = walk.number("<Q"), walk.number("<Q")
        for _ in range(pairs):
            walk.string(_MAX_NAME)
            walk.value(walk.number("<I"))
        for _ in range(tensors):
            walk.string(_MAX_NAME)
            dims = walk.number("<I")
            if dims > _MAX_DIMS:
                raise ValueError(f"a tensor of {dims} dimensions")
            walk.skip(8 * dims + 4)
            if walk.number("<Q") > len(data):
                raise ValueError("a tensor lies behind the end of the file")


class _Walk:
    """A position in the header that never leaves the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def skip(self, count: int) -> int:
        """Go on by ``count`` bytes; gives where they begin."""
        at = self._at
        self._at += count
        if self._at > len(self._data):
            raise ValueError("the file ends inside its header")
        return at

    def number(self, form: str) -> int:
        return int(struct.unpack_from(form, self._data, self.skip(struct.calcsize(form)))[0])

    def string(self, longest: int) -> None:
        length = self.number("<Q")
        if length > longest:
            raise ValueError(f"a text of {length} bytes")
        self.skip(length)

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.string(len(self._data))
        elif kind == _ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            if count > _MAX_ARRAY:
                raise ValueError(f"an array of {count} values")
            if item == _STRING:
                for _ in range(count):
                    self.string(_MAX_NAME)
            else:
                self.skip(count * self._width(item))
        else:
            self.skip(self._width(kind))

    @staticmethod
    def _width(kind: int) -> int:
        if kind not in _SCALAR_BYTES:
            raise ValueError(f"a value of the unknown type {kind}")
        return _SCALAR_BYTES[kind]
