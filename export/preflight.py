"""Say before any work starts that a disk or a memory is too small."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevlm.bundle.manifest import Precision
from edgevlm.errors import ExportError

# Bytes a weight takes in a bundle, scales and what stays in higher precision included.
BYTES: dict[Precision, float] = {"fp32": 4.0, "fp16": 2.0, "int8": 1.3, "int4": 0.9}
BESIDES = 200 << 20  # probe, tokenizer, manifest, and room to breathe
PROCESS = 1 << 30  # of the interpreter and the libraries that run the source model


def disk_bytes(parameters: int, precision: Precision) -> int:
    """What a bundle takes on disk, roughly."""
    return int(parameters * BYTES[precision]) + BESIDES


def memory_bytes(parameters: int) -> int:
    """What the largest process of an export takes: the source model in float32."""
    return parameters * 4 + PROCESS


def check_room(target: Path, disk: int, memory: int) -> None:
    """Hold an estimate against what is free.

    Args:
        target: where the bundle goes; its first existing parent is looked at.
        disk: bytes needed there.
        memory: bytes that one process needs.

    Raises:
        ExportError: too little of either, with both numbers.
    """
    folder = next(p for p in (target.absolute(), *target.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    if disk > free:
        raise ExportError(
            f"the bundle needs about {disk / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB "
            "free: make room, or choose another --output or a smaller --precision"
        )
    available = _available_memory()
    if available is not None and memory > available:
        raise ExportError(
            f"running the source model for the parity certificate needs about {memory / 1e9:.1f} "
            f"GB of memory and {available / 1e9:.1f} GB are available: close what else runs, add "
            "swap, or export on a larger machine"
        )


def _available_memory() -> int | None:
    """Memory that can be had without swapping, and the swap; None where nobody says."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines())
    kilobytes = [int(fields[key].split()[0]) for key in ("MemAvailable", "SwapFree")]
    return sum(kilobytes) * 1024
