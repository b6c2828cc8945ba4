"""Children of a stream: priority, last words, an end whatever they do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from edgevlm.errors import BackendError
from edgevlm.runtime.stream.worker import LOWEST, Child


def wait(child: Child) -> int:
    """Its exit code; the test's timeout bounds the wait."""
    while (code := child.ended()) is None:
        time.sleep(0.01)
    return code


def test_a_child_says_how_it_ended_and_what_it_said_last():
    child = Child([sys.executable, "-c", "print('first'); print('edgevlm: no room'); exit(3)"])
    assert wait(child) == 3
    assert child.last_words() == "edgevlm: no room"
    child.stop()
    child.stop()


def test_a_child_that_says_nothing_has_its_exit_code_for_last_words():
    child = Child([sys.executable, "-c", ""])
    assert (wait(child), child.last_words()) == (0, "exit code 0")
    child.stop()


def test_it_gives_way_to_everything_else_and_has_a_session_of_its_own(tmp_path: Path):
    code = f"import os, time; open({str(tmp_path / 'sid')!r}, 'w').write(str(os.getsid(0)))"
    child = Child([sys.executable, "-c", f"{code}; time.sleep(60)"])
    while not (tmp_path / "sid").is_file() or not (tmp_path / "sid").read_text():
        time.sleep(0.01)
    pid = child._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == LOWEST
    assert (tmp_path / "sid").read_text() == str(pid) != str(os.getsid(0))
    assert child.ended() is None
    child.stop()
    assert child._process.returncode == -15


def test_a_child_that_ignores_the_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edgevlm.runtime.stream.worker.STOP_S", 0.1)
    mark = tmp_path / "ready"
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(mark)!r}, 'w').close(); time.sleep(60)"
    )
    child = Child([sys.executable, "-c", code])
    while not mark.is_file():
        time.sleep(0.01)
    child.stop()
    assert child._process.returncode == -9


def test_a_program_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BackendError, match=r"gone cannot be started"):
        Child([str(tmp_path / "gone")])
