"""A signal while the source model runs: nothing is left, neither files nor processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.export.tiny import contents
from tests.export.vlm import tiny

MODULE = "edgevlm.export.reference.transformers_vlm"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted") / "checkpoint"
    tiny.smolvlm(folder)
    return folder


def running(process: subprocess.Popen[str], module: str) -> list[psutil.Process]:
    """The export's child of that module, once it is there."""
    parent = psutil.Process(process.pid)
    for _ in range(3000):
        with contextlib.suppress(psutil.Error):  # it may end while it is looked at
            found = [c for c in parent.children(recursive=True) if module in c.cmdline()]
            if found:
                return found
        time.sleep(0.01)
    pytest.fail(f"{module} was not seen")


@pytest.mark.parametrize(
    ("number", "whom", "code"),
    [
        (signal.SIGINT, "group", 130),
        (signal.SIGINT, "export", 130),
        (signal.SIGTERM, "export", 143),
    ],
    ids=["Ctrl-C", "SIGINT", "SIGTERM"],
)
def test_a_signal_while_the_source_model_runs_leaves_nothing(
    checkpoint: Path, tmp_path: Path, number: signal.Signals, whom: str, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgevlm", "export", str(checkpoint), "-o", str(tmp_path / "b")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        children = running(process, MODULE)
        if whom == "group":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert contents(tmp_path) == {}
    assert not psutil.wait_procs(children, timeout=10)[1]
