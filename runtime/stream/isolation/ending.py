"""How a child comes to its end, and how a child notices that its parent has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

MEMORY_WAS_SHORT = "the kernel has just killed a process because memory was short"


def dies_with(life: int) -> None:
    """In the child of a ``Worker``: have the kernel kill this process when the parent is gone.

    Not by the parent's thread, as ``PR_SET_PDEATHSIG`` would, and not by a look now and then, for
    which a call that hangs leaves no time: the pipe's end sends the signal.

    Args:
        life: the pipe's descriptor.
    """
    set_signal = 10  # F_SETSIG of <linux/fcntl.h>
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, set_signal, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_blocking(life, False)
    with contextlib.suppress(BlockingIOError):  # it was gone before
        if os.read(life, 1) == b"":
            os._exit(1)


def how_it_ended(code: int, memory_was_short: bool, tail: bytes) -> str:
    """Half a sentence.

    Args:
        code: exit code; negative is the signal that ended it.
        memory_was_short: the kernel has killed a process for memory while it ran.
        tail: of what it printed.
    """
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    last = f" ({lines[-1][:200]})" if lines else ""
    if code >= 0:
        return f"ended with exit code {code}{last}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code != signal.SIGKILL:
        return f"ended by {name}"
    if memory_was_short:
        return f"ended by {name}; {MEMORY_WAS_SHORT}"
    return f"ended by {name}"


def memory_kills() -> int:
    """How many processes the kernel has killed since it started because memory was short."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
