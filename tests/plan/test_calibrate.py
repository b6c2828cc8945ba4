"""This machine as a device: real ONNX Runtime on small probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.export.cost import speed_probe
from edgevlm.runtime.device.plan import calibrate
from edgevlm.runtime.model.load import open_backend


def test_every_precision_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed_probe, "WIDTH", 64)
    monkeypatch.setattr(speed_probe, "LAYERS", 2)
    monkeypatch.setattr(calibrate, "SECONDS", 0.0)
    probes = speed_probe.write_probes(tmp_path)
    seen: list[str] = []
    found = calibrate.measure(
        probes, open_backend("ort-cpu", 1), lambda *step: seen.append(step[2])
    )
    assert seen == ["fp32", "fp16", "int8", "int4"]
    assert found.measured_tflops.keys() == found.measured_gb_s.keys() == set(seen)
    assert found.kind == "cpu"
    # What the probes hold: int4 has half a byte, a float32 scale a block of 32, and a zero point.
    sizes = {p.precision: p.weight_bytes / p.weights for p in probes}
    assert sizes == {"fp32": 4.0, "fp16": 2.0, "int8": 1.125, "int4": 0.640625}


def test_work_is_repeated_until_its_time_is_up_and_the_median_kept():
    calls: list[int] = []
    assert calibrate.median_seconds(lambda: calls.append(1), seconds=0.0) >= 0.0
    assert len(calls) == 2  # the first does not count


def test_memory_is_read_from_meminfo():
    text = "MemTotal:        7811000 kB\nMemFree: 100 kB\nMemAvailable:    5200000 kB\n"
    assert calibrate.memory_gb(text) == (8.0, 5.32)
