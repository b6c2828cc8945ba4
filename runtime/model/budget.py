"""Before a bundle is loaded: whether this machine has the memory that it cannot do without."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgevlm.bundle.manifest import Manifest
from edgevlm.errors import BackendError

_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(manifest: Manifest, lanes: int = 1, root: Path = Path("/")) -> None:
    """Refuse a bundle whose weights and KV caches do not fit into memory.

    What an engine needs besides is not counted: a bundle that passes may still be too large, one
    that does not pass would be killed by the kernel, or swap for ever.

    Args:
        manifest: of the bundle.
        lanes: how many models share its weights.
        root: of the file tree that the figures are read from.

    Raises:
        BackendError: it does not fit; with the figures.
    """
    plan = manifest.memory
    need = plan.weights + lanes * plan.kv_cache
    have = _available(root)
    if have is not None and need > have:
        raise BackendError(
            f"{manifest.name} needs at least {need / 1e6:.0f} MB ({plan.weights / 1e6:.0f} MB of "
            f"weights, {lanes} KV cache of {plan.kv_cache / 1e6:.0f} MB), and "
            f"{have / 1e6:.0f} MB are to be had here: end other programs, or export it with a "
            "smaller --precision or --max-context"
        )


def _available(root: Path) -> int | None:
    """Bytes that could be had: free, to be freed, swap; no more than the control group may have."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text("ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("MemAvailable", "SwapFree"):
                found[name] = int(value.split()[0]) * 1024
    if "MemAvailable" not in found:
        return None
    bounds = [sum(found.values())]
    for limit in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # none, or "max"
            bounds.append(int((root / limit).read_text("ascii")))
    return min(bounds)
