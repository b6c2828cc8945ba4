"""ELF files with GPU code in them, laid out as NVIDIA's compiler lays it out.

A container of ``.nv_fatbin``: magic, version 1, header of 16 bytes, size of what follows. An
entry: kind (1 PTX, 2 cubin), version 0x101, size of its header, size of its payload, compressed
size, an unused word, minor and major of the code's version, compute capability, then flags and
names. The same bytes stand in ``.s`` files that ``nvcc --keep`` leaves behind, as
``.quad 0x00100001ba55ed50,0x0000000000000308,0x0000004001010002,...``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

PTX, CUBIN = 1, 2


def entry(kind: int, capability: int, header: int = 64, payload: bytes = b"\x7fELFcode") -> bytes:
    """One piece of code; CUDA 13 writes longer headers for some, so their length varies."""
    payload += bytes(-len(payload) % 8)
    fixed = struct.pack("<HHIQIIHHI", kind, 0x101, header, len(payload), 0, 0, 7, 1, capability)
    return fixed.ljust(header, b"\0") + payload


def container(entries: Iterable[bytes]) -> bytes:
    """A row of entries with the header in front."""
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(sections: dict[str, bytes], needed: Iterable[str] = ()) -> bytes:
    """A 64-bit little-endian shared library with these sections and these DT_NEEDED names."""
    strings, dynamic = b"\0", b""
    for name in needed:
        dynamic += struct.pack("<qQ", 1, len(strings))
        strings += name.encode() + b"\0"
    parts = {**{name: (1, data) for name, data in sections.items()},
             ".dynstr": (3, strings), ".dynamic": (6, dynamic + bytes(16))}  # fmt: skip
    names = b"\0" + b"".join(f"{name}\0".encode() for name in (*parts, ".shstrtab"))
    parts[".shstrtab"] = (3, names)
    body, headers = bytearray(64), [bytes(64)]
    for name, (kind, data) in parts.items():
        body += bytes(-len(body) % 8)
        at = names.index(f"\0{name}\0".encode()) + 1
        fields = (at, kind, 0, 0, len(body), len(data), 0, 0, 8, 0)
        headers.append(struct.pack("<IIQQQQIIQQ", *fields))
        body += data
    body += bytes(-len(body) % 8)
    head = struct.pack("<6s10xHHIQQQIHHHHHH", b"\x7fELF\x02\x01", 3, 183, 1, 0, 0, len(body), 0,
                       64, 0, 0, 64, len(headers), len(headers) - 1)  # fmt: skip
    body[: len(head)] = head
    return bytes(body) + b"".join(headers)


def library(path: Path, cubins: Iterable[int] = (), ptx: Iterable[int] = ()) -> Path:
    """A library with code for these GPUs, each in a container of its own, as nvcc links them."""
    rows = [container([entry(CUBIN, c)]) for c in cubins]
    rows += [container([entry(PTX, c, header=80)]) for c in ptx]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf({".text": b"\x90" * 9, ".nv_fatbin": b"".join(rows)}))
    return path
