"""Child processes of a stream: the only place of the runtime's streams that starts them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
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

    def __init__(self, command: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
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
