"""Child processes of a stream: the only place of the runtime's streams that starts them."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence

from edgevlm.errors import BackendError

LOWEST = 19  # as `nice` counts
STOP_S = 5.0
_TAIL_BYTES = 4096


class Child:
    """A command at the lowest priority, asked now and then whether it has ended.

    It has a session of its own, so that an interrupt typed at the stream's terminal does not
    reach it: whoever started it stops it.

    Args:
        command: program and arguments.

    Raises:
        BackendError: it cannot be started.
    """

    _fed = False

    def __init__(self, command: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE if self._fed else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._fed else self._said,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as exc:
            self._said.close()
            raise BackendError(f"{command[0]} cannot be started: {exc}") from exc
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, self._process.pid, LOWEST)

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line that it said."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL_BYTES))
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"

    def stop(self) -> None:
        """End it, politely first; may be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()


class Fed(Child):
    """A child that is fed through its standard input; no wait for it is without a bound.

    It ends by itself when its input ends, so none outlives a parent that was killed.

    Args:
        command: program and arguments.

    Raises:
        BackendError: it cannot be started.
    """

    _fed = True

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)

    def feed(self, data: bytes | memoryview, timeout_s: float) -> bool:
        """Write all of ``data``; False if it has ended, or took too little for ``timeout_s``."""
        left, until = memoryview(data), time.monotonic() + timeout_s
        while left:
            try:
                left = left[os.write(self._in.fileno(), left) :]
            except BlockingIOError:
                wait_s = until - time.monotonic()
                if wait_s <= 0 or not select.select([], [self._in], [], wait_s)[1]:
                    return False
            except OSError:  # nobody reads
                return False
        return True

    def answer(self) -> bytes:
        """What it has written to its standard output since the last call."""
        try:
            return os.read(self._out.fileno(), _TAIL_BYTES)
        except BlockingIOError:
            return b""

    def finish(self, timeout_s: float) -> bool:
        """End its input and wait for it; False if it has not ended by then."""
        self._in.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it, politely first; may be called twice."""
        super().stop()
        self._in.close()
        self._out.close()
