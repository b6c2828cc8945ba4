"""Processes that the exporter starts: it loads neither an engine nor torch itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from edgevlm.errors import ExportError

TIMEOUT_S = 3600.0


def run_module(module: str, *arguments: str | Path, doing: str) -> str:
    """``python -m module arguments``: its standard output.

    Args:
        module: dotted name.
        arguments: of the command line.
        doing: what the process is for, in the words of an error.

    Raises:
        ExportError: it failed, with the last line it wrote to stderr, or took too long.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise ExportError(f"{doing} took over {TIMEOUT_S:.0f} s") from exc
    if done.returncode == -signal.SIGKILL:
        raise ExportError(
            f"{doing} was killed, most likely for want of memory: close what else runs, add swap, "
            "or export on a larger machine"
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise ExportError(f"{doing} failed: {last}")
    return done.stdout
