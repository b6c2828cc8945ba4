"""Which GPUs a shared library holds code for, read from the file itself.

CUDA's compiler puts its output into the ELF sections ``.nv_fatbin`` and ``__nv_relfatbin``: a row
of containers, each with a 16-byte header (magic 0xBA55ED50, version, header size, bytes that
follow) and entries of a header and a payload. An entry's header says what the payload is (1: PTX,
2: a cubin), its own size, the payload's size, and the compute capability at byte 28. NVIDIA does
not publish the layout; this follows what independent readers of it agree on (the ``fatbinary``
and ``cuda-fatbin-decompression`` projects, ZLUDA) and was compared with wheels of CUDA 13.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAGIC = struct.pack("<I", 0xBA55ED50)
_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_PTX, _CUBIN = 1, 2
_DYNAMIC, _NEEDED = 6, 1  # a section's type, a dynamic entry's tag
TEGRA = frozenset({53, 62, 72, 87, 101, 110})  # integrated GPUs; 101 is what CUDA 12 called 110


class NotReadable(ValueError):
    """The file is no intact 64-bit ELF file, or its GPU code is laid out in an unknown way."""


@dataclass(frozen=True, slots=True)
class GpuCode:
    """Compute capabilities (87 for 8.7) for which there are cubins, and PTX."""

    cubins: frozenset[int]
    ptx: frozenset[int]

    def runs_on(self, sm: int) -> bool:
        """True if a GPU of capability ``sm`` finds code it can run or compile.

        Source: CUDA C++ Programming Guide, "Binary Compatibility": a cubin runs on its own
        capability and on later minor ones, but not on Tegra, nor from desktop to Tegra; and "PTX
        Compatibility": PTX is compiled for any later capability. (Code for features of one
        architecture alone, sm_90a and the like, is not told apart here.)
        """
        if sm in self.cubins or any(version <= sm for version in self.ptx):
            return True
        if sm in TEGRA:
            return False
        return any(c // 10 == sm // 10 and c <= sm and c not in TEGRA for c in self.cubins)

    def __str__(self) -> str:
        """As in ``sm_75 sm_86, PTX 90``."""
        cubins = " ".join(f"sm_{c}" for c in sorted(self.cubins))
        ptx = "PTX " + " ".join(map(str, sorted(self.ptx))) if self.ptx else ""
        return ", ".join(filter(None, (cubins, ptx))) or "no GPU code"


def gpu_code(path: Path) -> GpuCode:
    """The GPU code in the ELF file at ``path``.

    Raises:
        NotReadable: not ELF, truncated, or an unknown layout.
        OSError: it cannot be opened.
    """
    found: dict[int, set[int]] = {_PTX: set(), _CUBIN: set()}
    with _Mapped(path) as data:
        for name, _, start, size in _sections(data):
            if name in _SECTIONS:
                for kind, capability in _entries(data, start, start + size):
                    found.setdefault(kind, set()).add(capability)
    return GpuCode(frozenset(found[_CUBIN]), frozenset(found[_PTX]))


def needed_libraries(path: Path) -> list[str]:
    """The shared libraries that the ELF file at ``path`` names as needed (DT_NEEDED).

    Raises:
        NotReadable: not ELF, or truncated.
        OSError: it cannot be opened.
    """
    with _Mapped(path) as data:
        sections = list(_sections(data))
        strings = {name: start for name, _, start, _ in sections}.get(b".dynstr")
        if strings is None:
            return []
        return [
            _string(data, strings + value).decode("ascii", "replace")
            for _, kind, start, size in sections
            if kind == _DYNAMIC
            for at in range(start, start + size, 16)
            for tag, value in [_unpack("<qQ", data, at)]
            if tag == _NEEDED
        ]


class _Mapped:
    """The file as memory; pages are read as they are looked at."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._data = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as exc:  # an empty file
            self._file.close()
            raise NotReadable(f"{path} is empty") from exc

    def __enter__(self) -> mmap.mmap:
        return self._data

    def __exit__(self, *_: object) -> None:
        self._data.close()
        self._file.close()


def _unpack(layout: str, data: mmap.mmap, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, at)
    except (struct.error, OverflowError) as exc:
        raise NotReadable(f"truncated: nothing at byte {at}") from exc


def _string(data: mmap.mmap, at: int) -> bytes:
    if at >= len(data):
        raise NotReadable(f"truncated: no name at byte {at}")
    return data[at : data.find(b"\0", at)]


def _sections(data: mmap.mmap) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, type, offset and size of each section of a little-endian 64-bit ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise NotReadable("not a little-endian 64-bit ELF file")
    (table,) = _unpack("<Q", data, 40)
    step, count, names_index = _unpack("<HHH", data, 58)
    headers = [_unpack("<IIQQQQ", data, table + i * step) for i in range(count)]
    if names_index >= len(headers):
        return
    names = headers[names_index][4]
    for name, kind, _, _, start, size in headers:
        if kind != 8 and start + size > len(data):  # 8: takes no room in the file
            raise NotReadable(f"truncated: a section ends at byte {start + size}")
        yield _string(data, names + name), kind, start, size


def _entries(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Kind and compute capability of every entry of every container in a section."""
    while (at := data.find(_MAGIC, at, end)) >= 0:
        _, _, header, following = _unpack("<IHHQ", data, at)
        entry, at = at + header, at + header + following
        if header < 16 or at > end:
            raise NotReadable(f"a container of GPU code ends at byte {at}, outside its section")
        while entry < at:
            kind, _, header, payload = _unpack("<HHIQ", data, entry)
            (capability,) = _unpack("<I", data, entry + 28)
            if header < 32:
                raise NotReadable(f"an entry of GPU code at byte {entry} has an unknown layout")
            yield kind, capability
            entry += header + payload
