"""This machine as a device: matrix products and memory, measured in about ten seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgevlm.bundle.manifest import Precision
from edgevlm.cost.probe import SpeedProbe
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.device.bench import cpu_name
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.tensors import DTYPES, Array

ROWS = 192  # of a prompt: enough to be bound by arithmetic
SECONDS = 0.9  # for each of the two measurements of a probe
Report = Callable[[int, int, str], None]


def measure(
    probes: Sequence[SpeedProbe],
    backend: Backend,
    report: Report = lambda _done, _total, _what: None,
) -> Device:
    """Time every probe with one row, which reads all weights, and with many, which compute.

    Args:
        probes: from ``edgevlm.export.cost.speed_probe``.
        backend: that runs them.
        report: called after every probe.

    Raises:
        BackendError: the engine refuses one.
    """
    tflops: dict[Precision, float] = {}
    gb_s: dict[Precision, float] = {}
    for number, probe in enumerate(probes):
        graph = backend.load(probe.path)
        one = median_seconds(lambda g=graph, p=probe: _run(g, p, 1))  # type: ignore[misc]
        many = median_seconds(lambda g=graph, p=probe: _run(g, p, ROWS))  # type: ignore[misc]
        graph.close()
        gb_s[probe.precision] = round(probe.weight_bytes / one / 1e9, 3)
        tflops[probe.precision] = round(2.0 * probe.weights * ROWS / many / 1e12, 5)
        report(number + 1, len(probes), probe.precision)
    total, available = memory_gb(Path("/proc/meminfo").read_text("utf-8"))
    return Device(
        title=f"this machine: {cpu_name()}",
        kind="cpu",
        vector_tflops=tflops["fp32"],
        bandwidth_gb_s=gb_s["fp32"],
        memory_gb=total,
        usable_gb=available,
        unified=True,
        measured_tflops=tflops,
        measured_gb_s=gb_s,
        source=dict.fromkeys(("arithmetic", "bandwidth", "memory", "usable"), "measured"),
        note=f"{backend.name}, products of {ROWS} rows and of one",
    )


def median_seconds(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """Median time of repeated work, after one run that does not count."""
    work()
    times: list[float] = []
    begun = time.perf_counter()
    while not times or (time.perf_counter() - begun < seconds and len(times) < 200):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def memory_gb(meminfo: str) -> tuple[float, float]:
    """Whole and available memory, GB of 10^9 bytes, from the text of ``/proc/meminfo``."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    total, available = (
        int(fields[k].split()[0]) * 1024 / 1e9 for k in ("MemTotal", "MemAvailable")
    )
    return round(total, 2), round(available, 2)


def _run(graph: Graph, probe: SpeedProbe, rows: int) -> dict[str, Array]:
    assert probe.dtype in DTYPES
    return graph.run({"x": np.full((rows, probe.width), 0.01, np.dtype(probe.dtype))})
