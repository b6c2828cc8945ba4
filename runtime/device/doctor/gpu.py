"""The NVIDIA driver and its device nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine

# A display controller (class 0x03) of vendor 10de, as sysfs lists PCI devices.
_NVIDIA, _DISPLAY = "0x10de", "0x03"
# Any one of these lets CUDA in: nvgpu on Orin (JetPack 6 and 7), the PC driver, which Thor has too.
_NODES = ("/dev/nvhost-gpu", "/dev/nvgpu/igpu0", "/dev/nvidiactl")


def probe(machine: Machine) -> Iterator[Finding]:
    """The GPU, the driver's version, and whether its device nodes are there."""
    tree, board = machine.tree, machine.board
    driver = _driver(machine)
    if not board.jetson and not driver:
        if _card_on_the_bus(machine):
            yield Finding(
                what="gpu",
                verdict="warn",
                found="an NVIDIA card without its driver",
                remedy="sudo apt install nvidia-driver, then restart; "
                "--backend ort-cpu works as it is",
            )
        else:
            yield Finding(what="gpu", verdict="ok", found="no NVIDIA GPU; ort-cpu is the backend")
        return
    name = f"NVIDIA {board.soc}" if board.jetson else ", ".join(board.cards) or "unknown card"
    capability = f"sm_{board.sm}" if board.sm else "compute capability unknown"
    found = f"{name} ({capability}), driver {driver or f'of L4T {board.l4t}'}"
    nodes = [n for n in _NODES if tree.exists(n)]
    yield Finding(
        what="gpu",
        verdict="ok" if nodes else "fail",
        found=f"{found}; {nodes[0] if nodes else 'no device node, so CUDA does not start'}",
        remedy="" if nodes else _no_nodes(machine),
    )


def _driver(machine: Machine) -> str:
    """The version token of the kernel module's own file; empty without one."""
    text = machine.tree.text("/proc/driver/nvidia/version") or ""
    match = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\w.]*)", text)
    return match[1] if match else ""


def _card_on_the_bus(machine: Machine) -> bool:
    return any(
        machine.tree.text(f"{device}/vendor") == _NVIDIA
        and (machine.tree.text(f"{device}/class") or "").startswith(_DISPLAY)
        for device in machine.tree.names("/sys/bus/pci/devices")
    )


def _no_nodes(machine: Machine) -> str:
    if machine.board.jetson:
        return "in a container start it with `--runtime nvidia`; else: sudo dmesg | grep -i nvgpu"
    return "sudo modprobe nvidia nvidia-uvm; in a container start it with `--gpus all`"
