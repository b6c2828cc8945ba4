from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips.camera import Camera
from benchmarks.clips.clip import Clip
from benchmarks.fixed_camera import cpu_seconds, measure
from edgevlm.export.nano_data.story import Change
from edgevlm.frame import UInt8

GREY = np.full((64, 96, 3), 120, np.uint8)


def pictures() -> Iterator[UInt8]:
    for n in range(24):
        yield GREY if n < 12 else 255 - GREY // 2


def test_streaming_and_asking_take_turns_over_one_clip(nano, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path))
    step = Change(
        kind="cut", begun=12, shown=12, frame=12, until=24,
        box_xyxy=(0, 0, 96, 64), area_px=96 * 64, contrast=75.0,
    )  # fmt: skip
    of = Clip(
        name="step", role="judge", what="", fps=10, count=24, changes=(step,), pictures=pictures,
        camera=Camera(seed=1, noise=1.0),
    )  # fmt: skip
    said: list[str] = []
    found = measure(nano.root, of, [], 1, 1, 2, {}, said.append)
    assert said == ["round 1 of 1"]
    assert found["gate"]["passed"] == 2
    assert found["gate"]["missed"] == 0
    assert found["prompt_tokens"] > 16  # the visual ones and the question
    assert found["output_tokens"] >= 1
    covered = found["frames_per_cpu_s"]
    assert found["streamed_over"]["asked"] == pytest.approx(
        covered["streamed"] / covered["asked"], rel=0.1
    )
    everything = measure(nano.root, of, [], 1, 1, 2, {"gate": False}, said.append)
    assert everything["gate"]["passed"] == 24


def test_processor_time_of_a_process_is_read_from_the_kernel():
    begun, ours = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - ours < 0.2:
        pass
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert cpu_seconds(os.getpid()) - begun == pytest.approx(0.2, abs=3 * tick + 0.05)
