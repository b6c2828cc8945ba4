"""Small costs that add up: importing the package, and the gate on a 1080p frame.

``python -m benchmarks.small_costs`` prints medians. Imports are timed in new interpreters, less
the time of an interpreter that imports nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import av
import numpy as np

from edgevlm.runtime.stream.gates.luma import LumaGate
from edgevlm.runtime.stream.sources.pixels import VideoPixels

RUNS = 15


def import_seconds(statement: str) -> float:
    """Median time of a new interpreter that runs one statement."""

    def once() -> None:
        subprocess.run([sys.executable, "-c", statement], check=True)

    return _median(once)


def gate_ms() -> float:
    """Median time of the luma gate on a decoded 1080p frame, colour conversion not included."""
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 255, (1080, 1920, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
    pixels, gate = VideoPixels(frame), LumaGate()
    gate.differs(pixels.luma())
    gate.accept()
    return 1e3 * _median(lambda: gate.differs(pixels.luma()), runs=200)


def _median(work: Callable[[], object], runs: int = RUNS) -> float:
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def main() -> None:
    """Print the costs."""
    bare = import_seconds("pass")
    for module in ("edgevlm", "edgevlm.runtime", "edgevlm.cli.app"):
        sys.stdout.write(f"import {module}: {import_seconds(f'import {module}') - bare:.3f} s\n")
    sys.stdout.write(f"luma gate, one 1920x1080 frame: {gate_ms():.3f} ms\n")


if __name__ == "__main__":
    main()
