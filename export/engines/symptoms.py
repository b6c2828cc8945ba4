"""What a compiler's complaints mean: memory, an operator, or something else.

TensorRT rarely says that it lacked memory. It skips the kernels that did not fit and then finds
none for a node. Sources: github.com/NVIDIA/TensorRT issues 3355, 2712, 4220, 4258.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgevlm.errors import BuildError, BuildMemoryError

REMEDY = (
    "close what else runs, add swap, lower --workspace-mb or --level, or take a smaller "
    "--precision; on a Jetson a run without the desktop frees 800 MB"
)
_MEMORY = re.compile(
    r"out ?of ?memory|bad_alloc|cudaErrorMemoryAllocation|cannot allocate memory"
    r"|could not be allocated|insufficient (device )?memory|memory is insufficient"
    r"|Tactic Device request",
    re.IGNORECASE,
)
_NO_KERNEL = re.compile(r"Could not find any implementation for node (?P<node>.+?)(\.|$| due)")


def build_failure(name: str, messages: Sequence[str], workspace_mib: int) -> BuildError:
    """The error for a build that gave no engine.

    Args:
        name: of the graph.
        messages: the compiler's warnings and errors, in order.
        workspace_mib: what it was allowed.
    """
    last = " ".join(messages[-1].split()) if messages else "no reason given"
    if memory := next((m for m in messages if _MEMORY.search(m)), None):
        said = " ".join(memory.split())
        return BuildMemoryError(f"{name}: out of memory during the build ({said}); {REMEDY}")
    for message in messages:
        if found := _NO_KERNEL.search(message):
            return BuildMemoryError(
                f"{name}: no kernel for {found['node']} within a workspace of {workspace_mib} MB, "
                "which TensorRT also says when the device has no memory left; try a larger "
                f"--workspace-mb, or: {REMEDY}"
            )
    return BuildError(f"{name}: the compiler gives no engine: {last}")


def killed(name: str) -> BuildMemoryError:
    """The error for a compiler that the system killed."""
    return BuildMemoryError(
        f"{name}: the compiler was killed, most likely for want of memory; {REMEDY}"
    )
