"""Resident memory of a process, anonymous and file-backed apart."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Largest values seen, MB of 10^6 bytes. File-backed pages can be given back at any time."""

    rss_mb: float
    anonymous_mb: float
    file_mb: float
    exit_code: int
    seconds: float


def watch(command: Sequence[str]) -> Peak:
    """Run a command, output thrown away, and watch its memory every ``POLL_S`` seconds."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    peak = {"VmRSS": 0.0, "RssAnon": 0.0, "RssFile": 0.0}
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for name, value in _read(status).items():
            peak[name] = max(peak[name], value)
        time.sleep(POLL_S)
    return Peak(
        rss_mb=peak["VmRSS"],
        anonymous_mb=peak["RssAnon"],
        file_mb=peak["RssFile"],
        exit_code=process.returncode,
        seconds=time.perf_counter() - begun,
    )


def _read(status: Path) -> dict[str, float]:
    try:
        lines = status.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # the process has just ended
        return {}
    found = {}
    for line in lines:
        key, _, value = line.partition(":")
        if key in ("VmRSS", "RssAnon", "RssFile"):
            found[key] = round(int(value.split()[0]) * 1024 / 1e6, 1)
    return found
