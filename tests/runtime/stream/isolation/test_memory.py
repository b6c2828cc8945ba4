"""Where memory ends: row 18 of the fault list, with real processes and real limits."""

from __future__ import annotations

import contextlib
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.errors import (
    BackendError,
)
from edgevlm.event import AnswerEvent, FaultEvent, SummaryEvent
from edgevlm.runtime.stream.pipeline import Stream
from tests.runtime.stream.conftest import ListSource, ManualClock
from tests.runtime.stream.isolation.conftest import Make, told
from tests.runtime.stream.test_shedding import Large


def test_memory_that_a_process_may_not_have_is_an_error_that_says_so(isolate: Make):
    with pytest.raises(BackendError, match=r"MemoryError|bad_alloc|SIGABRT"):
        isolate({"memory_mb": 80})


def test_a_process_whose_memory_ends_stays_and_gets_smaller_frames(
    isolate: Make, config: Callable[..., Any]
):
    there = isolate()
    pid = there.process.pid
    assert pid is not None
    there.ask(np.zeros((120, 200, 3), np.uint8), "?", max_tokens=2)  # what it needs at all
    (held,) = re.findall(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    limit = int(held) * 1024 + (80 << 20)  # a picture of 4800 x 4800 takes 92 MB as Pillow holds it
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
    settings = config(generation={"max_tokens": 2}, policy={"gate": False})
    source = Large(3, (4800, 4800))
    *events, summary = Stream(settings, source, there, ManualClock(), kept=there).events()
    assert isinstance(summary, SummaryEvent)
    assert (summary.frames.answered, summary.frames.failed) == (2, 1)
    (fault,) = [e for e in events if isinstance(e, FaultEvent)]
    assert "frames are at most 2400 pixels wide and high from now on" in fault.message
    shed = [e.degraded[-1] for e in events if isinstance(e, AnswerEvent)]
    assert shed == ["memory: frames are at most 2400 pixels wide and high"] * 2
    assert there.process.pid == pid


def test_where_memory_ends_the_kernel_takes_the_model_and_not_the_stream(
    isolate: Make, config: Callable[..., Any]
):
    there = isolate()
    pid = there.process.pid
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(own, 500)
    group = Path("/sys/fs/cgroup/memory/edgevlm-test")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this test needs to make a control group (cgroup v1, as root)")
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "memory.limit_in_bytes").write_text(str(8 << 20))
        (group / "memory.swappiness").write_text("0")
        settings = config(generation={"max_tokens": 4}, policy={"gate": False})
        source = ListSource([40, 200, 90], ManualClock())
        events, summary = told(there, settings, source, lambda: False)
    finally:
        deadline = time.monotonic() + 5
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)
    (fault,) = [e for e in events if isinstance(e, FaultEvent) and e.code == "backend"]
    assert "killed a process because memory was short" in fault.message
    assert (summary.frames.answered, summary.frames.failed) == (2, 1)
