"""Events as JSON Lines."""

from __future__ import annotations

from typing import TextIO

from edgevlm.event import Event


class JsonLinesSink:
    """Writes one JSON object a line, flushed per line.

    Args:
        file: a text file; not closed here.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, event: Event) -> None:
        """Write one event.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()
