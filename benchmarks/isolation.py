"""What a model in a process of its own costs: time and processor time a frame, memory, a restart.

``python -m benchmarks.isolation BUNDLE [--frames 20] [--size 1920x1080] [--max-tokens 8]`` asks the
same frames of a model in this process and of one in its own, in turn. Answers must be the same, or
it fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgevlm.answer import Answer
from edgevlm.config import EngineSection, LimitsSection
from edgevlm.errors import BackendError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.stream.isolation.process import ModelProcess
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.model import Model

THREADS = 2
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Of one way to ask: seconds a frame."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        """For the table."""
        wall = 1e3 * statistics.median(self.wall_s)
        cpu = 1e3 * statistics.mean(self.cpu_s)  # the kernel counts in hundredths of a second
        return f"{name:<22} {wall:9.1f} {cpu:12.1f}"


def cpu_s(*pids: int | None) -> float:
    """Processor time of processes so far, all their threads."""
    used = 0.0
    for pid in filter(None, pids):
        numbers = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        used += (int(numbers[11]) + int(numbers[12])) * TICK_S
    return used


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process: its own, and mapped from files (weights) or shared."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile", "RssShmem"):
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return found


def ask(model: Model, picture: np.ndarray, tokens: int, polled: Callable[[], bool]) -> Answer:
    """One answer without what earlier ones taught, so that every token is a step."""
    return model.ask(
        picture, "Describe the scene.", max_tokens=tokens, draft=False, cancelled=polled
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--max-tokens", type=int, default=8)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]

    engine = EngineSection(isolate=True, threads=THREADS, spin=False)
    begun = time.monotonic()
    there = Isolated(ModelProcess(given.bundle, engine, LimitsSection()))
    started_s = time.monotonic() - begun
    alone = memory_mb(os.getpid())
    child = memory_mb(there.process.pid or 0)
    here = load(given.bundle, threads=THREADS, spin=False)
    costs = {"in this process": Cost(), "in its own": Cost()}
    models: tuple[Model, Model] = (here, there)
    asked = [0]

    def polled() -> bool:
        asked[0] += 1
        return False

    for number in range(-1, given.frames):  # the first is to warm up
        picture = pictures[number % len(pictures)]
        said = []
        for model, cost in zip(models, costs.values(), strict=True):
            wall, cpu = time.perf_counter(), cpu_s(os.getpid(), there.process.pid)
            answer = ask(model, picture, given.max_tokens, polled)
            wall, cpu = time.perf_counter() - wall, cpu_s(os.getpid(), there.process.pid) - cpu
            said.append(answer.token_ids)
            if number >= 0:
                cost.wall_s.append(wall)
                cost.cpu_s.append(cpu)
        if said[0] != said[1]:
            raise SystemExit(f"the answers differ: {said}")
    worked = memory_mb(there.process.pid or 0)
    here.close()

    losses = []
    for _ in range(3):
        os.kill(there.process.pid or 0, signal.SIGKILL)
        begun = time.monotonic()
        try:
            ask(there, pictures[0], 1, polled)
        except BackendError:
            ask(there, pictures[0], 1, polled)
        losses.append(time.monotonic() - begun)
    there.close()

    size = f"{given.frames} frames of {given.size}, {given.max_tokens} tokens each"
    print(f"{size}, {THREADS} threads; ms a frame: median, mean")
    print(f"{'':<22} {'time':>9} {'processors':>12}")
    for name, cost in costs.items():
        print(cost.line(name))
    print(
        f"start {started_s:.2f} s; from a kill to the next answer {statistics.median(losses):.2f} s"
    )
    for name, memory in (
        ("parent", alone),
        ("child, loaded", child),
        ("child, after answers", worked),
    ):
        print(f"{name:<22} " + ", ".join(f"{k} {v:.0f} MB" for k, v in memory.items()))


if __name__ == "__main__":
    main()
