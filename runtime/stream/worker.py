"""Child processes of a stream: the only place of the runtime's streams that starts them."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from edgevlm.errors import BackendError
from edgevlm.runtime.stream.isolation.ending import how_it_ended, memory_kills

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


class Worker:
    """A module of ours that runs in a child process and is spoken to over a socket.

    The child gets, as arguments, the descriptors of its end of the socket, of a pipe that closes
    when this process ends in whatever way (see ``isolation.ending.dies_with``), and those given.
    It has a session of its own; what it prints is kept for its last words, ``_TAIL_BYTES`` of it.

    Args:
        module: run as ``python -m``; finds the modules that this process finds, in the same places.
        descriptors: that it inherits.

    Raises:
        BackendError: it cannot be started.
    """

    def __init__(self, module: str, descriptors: Sequence[int]) -> None:
        self.end, theirs = socket.socketpair()
        life, self._life = os.pipe()
        self._said, said = os.pipe()
        os.set_blocking(said, False)  # a child that prints much loses some of it, and never waits
        os.set_blocking(self._said, False)
        self._tail = b""
        self._kills = memory_kills()
        passed = [theirs.fileno(), life, *descriptors]
        paths = os.pathsep.join(filter(None, sys.path))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=passed,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
            )
        except OSError as exc:
            self._close()
            raise BackendError(f"{sys.executable} cannot be started: {exc}") from exc
        finally:
            theirs.close()
            os.close(life)
            os.close(said)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def listen(self) -> None:
        """Take what it has printed, so that there is room for more."""
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self._said, 1 << 16):
                self._tail = (self._tail + part)[-_TAIL_BYTES:]

    def kill(self) -> None:
        """Kill it, and leave the rest to whoever waits for it."""
        self._process.kill()

    def end_by(self, within_s: float) -> str:
        """Wait for its end, kill it if it does not come, and say how it ended.

        Args:
            within_s: to wait; 0 kills at once.
        """
        killed = False
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            killed = True
            self._process.kill()
            self._process.wait()
        self.listen()
        self._close()
        if killed:
            return "was killed"
        return how_it_ended(self._process.returncode, memory_kills() > self._kills, self._tail)

    def _close(self) -> None:
        self.end.close()
        for descriptor in (self._life, self._said):
            with contextlib.suppress(OSError):
                os.close(descriptor)
