"""Events as JSON Lines: on an open file, or in a file that is appended to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.sinks.base import Told


class JsonLinesSink:
    """Writes one JSON object a line, flushed per line.

    Args:
        file: a text file; not closed here.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @property
    def name(self) -> str:
        """The file's own name."""
        return str(getattr(self._file, "name", "jsonl"))

    def write(self, told: Told) -> None:
        """Write one event.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        self._file.write(told.event.model_dump_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is held."""


class JsonLinesFileSink:
    """``jsonl:PATH``: appends to a file, which is created where there is none.

    A line that a power cut or a full disk left unfinished is ended before the next, so that it
    spoils no other.

    Raises:
        SinkError: the file cannot be opened for writing.
    """

    def __init__(self, uri: str) -> None:
        self.name = uri
        path = Path(uri.partition(":")[2])
        try:
            self._file = path.open("a+b", buffering=0)
            self._torn = self._ends_torn()
        except OSError as exc:
            raise SinkError(f"{uri} cannot be written: {exc.strerror}") from exc
        self._lost = 0

    def _ends_torn(self) -> bool:
        if self._file.seek(0, os.SEEK_END) == 0:
            return False
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) != b"\n"

    def write(self, told: Told) -> None:
        """Append one event.

        Raises:
            SinkError: it is lost (said of the first in a row), or the file takes events again.
        """
        line = b"\n" * self._torn + told.event.model_dump_json().encode() + b"\n"
        try:
            written = self._file.write(line) or 0
            if written < len(line):
                self._torn = self._torn or written > 0
                raise OSError("no space left")
        except OSError as exc:
            self._lost += 1
            if self._lost == 1:
                raise SinkError(f"{self.name}: events are lost: {exc.strerror or exc}") from exc
            return
        self._torn = False
        if lost := self._lost:
            self._lost = 0
            raise SinkError(f"{self.name}: written again; {lost} events are lost")

    def close(self) -> None:
        """Close the file.

        Raises:
            SinkError: the last events are lost.
        """
        self._file.close()
        if lost := self._lost:
            self._lost = 0
            raise SinkError(f"{self.name}: the last {lost} events are lost")
