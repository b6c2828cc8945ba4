"""Python, processor, and which board this is."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine

_DOT_PRODUCTS = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def probe(machine: Machine) -> Iterator[Finding]:
    """Python, cores and their instruction sets, the board and its JetPack."""
    version = machine.python.version
    supported = tuple(map(int, machine.python.minor.split("."))) >= (3, 10)
    yield Finding(
        what="python",
        verdict="ok" if supported else "fail",
        found=f"{version} in {machine.python.prefix}",
        remedy="" if supported else "edgevlm needs Python 3.10 or newer; JetPack 6 and 7 have it",
        needed=not supported,
    )
    yield Finding(what="cpu", verdict="ok", found=_processor(machine))
    if machine.board.jetson:
        yield _jetpack(machine)


def _processor(machine: Machine) -> str:
    """Cores and the instruction sets that int8 and int4 kernels use."""
    text = machine.tree.text("/proc/cpuinfo") or ""
    cores = sum(line.startswith("processor") for line in text.splitlines())
    words = set(text.split())
    found = [name for name in _DOT_PRODUCTS if name in words]
    architecture = platform.machine() + ", " if machine.tree.live else ""
    return f"{architecture}{cores} cores, {', '.join(found) or 'no dot-product instructions'}"


def _jetpack(machine: Machine) -> Finding:
    board = machine.board
    found = f"{board.model}, L4T {board.l4t or 'unknown'}, JetPack {board.jetpack or 'unknown'}"
    if not board.jetpack:
        remedy = "see which release it is: cat /etc/nv_tegra_release"
        return Finding(what="jetpack", verdict="unknown", found=found, remedy=remedy)
    old = board.jetpack_major < 6 or board.jetpack == "6.0"
    return Finding(
        what="jetpack",
        verdict="warn" if old else "ok",
        found=found,
        remedy="flash JetPack 6.2 or 7.2: TensorRT 10.3 is the oldest supported" if old else "",
    )
