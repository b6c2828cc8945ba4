"""``sqlite:PATH``: every event into the event store, with a thumbnail of each new answer.

With ``embed=BUNDLE`` also a vector of each such frame, by which `edgevlm events --like` finds it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from edgevlm.errors import ConfigError, SinkError
from edgevlm.runtime.stream.sinks.base import Told
from edgevlm.runtime.stream.store.embedder import Embedder
from edgevlm.runtime.stream.store.retention import Retention
from edgevlm.runtime.stream.store.writer import EventStore

_OPTIONS = ("days", "megabytes", "thumbnails", "embed")


class SqliteSink:
    """Events in an SQLite file, as in ``sqlite:events.db?days=30&megabytes=1000&thumbnails=1``.

    Args:
        uri: days are kept (0: without limit), up to so many megabytes (0: without limit).

    Raises:
        ConfigError: an unknown option or a value that is no number.
        SinkError: the file cannot be opened.
        EmbeddingMismatch: it holds vectors of another bundle than ``embed`` names.
        BundleError: that bundle cannot be used.
        ContractError: that bundle has no vision encoder.
    """

    def __init__(self, uri: str) -> None:
        self.name = uri
        path, _, query = uri.partition(":")[2].partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if odd := sorted(options.keys() - set(_OPTIONS)):
            raise ConfigError(f"{uri}: unknown option {odd[0]!r}; known are {', '.join(_OPTIONS)}")
        if not path:
            raise ConfigError(f"{uri}: it takes the path of a file, as in sqlite:events.db")
        retention = Retention(
            days=self._number(options, "days", 30) or None,
            megabytes=self._number(options, "megabytes", 1000) or None,
        )
        pictures = self._number(options, "thumbnails", 1) != 0
        self._embedder = Embedder(Path(options["embed"])) if options.get("embed") else None
        try:
            self._store = EventStore(
                Path(path), retention, thumbnails=pictures, embedder=self._embedder
            )
        except BaseException:
            self._release()
            raise

    def _number(self, options: dict[str, str], key: str, default: float) -> float:
        try:
            value = float(options.get(key, default))
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise ConfigError(f"{self.name}: {key}={options[key]!r} is no number from 0 to 10^9")
        return value

    def write(self, told: Told) -> None:
        """Store one event.

        Raises:
            SinkError: the disk takes no events or takes them again, or the file that was there is
                damaged and was put aside.
        """
        self._store.add(told.event, told.frame)
        if aside := self._store.quarantined:
            self._store.quarantined = None
            raise SinkError(
                f"{self._store.path} was damaged: put aside as {aside.name}, begun anew"
            )

    def close(self) -> None:
        """Write what waits and close the file.

        Raises:
            SinkError: events are lost.
        """
        try:
            self._store.close()
        finally:
            self._release()

    def _release(self) -> None:
        if self._embedder is not None:
            self._embedder.close()
