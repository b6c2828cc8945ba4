"""The command as a child process, the way a shell runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from tests.core.tiny import export_tiny

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = (sys.executable, "-m", "edgevlm")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copied(tiny: Bundle, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(tiny.root, tmp_path / "bundle"))


@pytest.fixture
def edgevlm(tmp_path: Path) -> Run:
    """Run the command in an empty folder and give its exit code, stdout and stderr."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, words)],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def one_line(stderr: str) -> str:
    """The message, which is one line from us and no traceback."""
    assert stderr.startswith("edgevlm: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    return stderr.strip()
