"""Small costs that add up: importing the package; gate, spool and loss check on a 1080p frame.

``python -m benchmarks.small_costs`` prints medians. Imports are timed in new interpreters, less
the time of an interpreter that imports nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.gating import no_model
from edgevlm.frame import Frame
from edgevlm.gates import GateSection, MotionSection, PixelSection
from edgevlm.runtime.stream.gates import open_chain
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.sources.h264 import FrameNumbers
from edgevlm.runtime.stream.sources.pixels import VideoPixels
from edgevlm.runtime.stream.spool import Spool

RUNS = 15


def import_seconds(statement: str) -> float:
    """Median time of a new interpreter that runs one statement."""

    def once() -> None:
        subprocess.run([sys.executable, "-c", statement], check=True)

    return _median(once)


def gate_ms(section: GateSection) -> float:
    """Median time of a gate on a decoded 1080p frame, colour conversion not included."""
    frame = Frame(index=0, pixels=VideoPixels(_picture()), captured_ns=0, monotonic_ns=0)
    chain = open_chain([section], Encoders())
    times = iter(range(1_000_000))

    def decide() -> None:
        chain.decide(View(frame, next(times) / 30, no_model))

    decide()
    chain.accept()
    return 1e3 * _median(decide, runs=200)


def spool_ms() -> float:
    """Median time to put a decoded 1080p frame into the spool and to take it out again."""
    frame = Frame(index=0, pixels=VideoPixels(_picture()), captured_ns=0, monotonic_ns=0)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), 100)
        items = spool.items(lambda: False)

        def through() -> None:
            spool.put(frame)
            next(items)

        return 1e3 * _median(through, runs=100)


def loss_check_ms() -> float:
    """Median time to look for a lost reference picture in a packet of 1080p H.264 (noise)."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 1920, 1080, "yuv420p"
    codec.time_base = Fraction(1, 30)
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "1000"}
    packets = [bytes(p) for _ in range(3) for p in codec.encode(_picture())]
    numbers = FrameNumbers(bytes(codec.extradata or b""))
    return 1e3 * _median(lambda: [numbers.lost(p) for p in packets], runs=50) / len(packets)


def _picture() -> av.VideoFrame:
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 255, (1080, 1920, 3), np.uint8)
    return av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")


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
    for section in (PixelSection(), MotionSection()):
        cost = gate_ms(section)
        sys.stdout.write(f"{section.kind} gate, one 1920x1080 frame: {cost:.3f} ms\n")
    sys.stdout.write(f"spool, one 1920x1080 frame in and out: {spool_ms():.3f} ms\n")
    sys.stdout.write(f"H.264 loss check, one 1920x1080 packet: {loss_check_ms():.3f} ms\n")


if __name__ == "__main__":
    main()
