"""Where events go; one file a sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from edgevlm.errors import ConfigError, SinkError
from edgevlm.event import DropReason
from edgevlm.frame import Frame
from edgevlm.registry import SINKS
from edgevlm.runtime.stream.sinks.base import Decision, Sink, Told, Watcher

__all__ = ["Sink", "Sinks", "Told", "open_sink", "open_sinks"]


def open_sink(uri: str) -> Sink:
    """The sink that ``uri`` names by its scheme.

    Args:
        uri: as ``edgevlm list sinks`` shows them.

    Raises:
        ConfigError: an unknown scheme or bad options.
        SinkError: it cannot be opened.
    """
    scheme, colon, _ = uri.partition(":")
    known = SINKS.known()
    if not colon or scheme not in known:
        raise ConfigError(
            f"unknown sink {scheme!r}; a sink is SCHEME:..., one of {', '.join(known)}"
        )
    sink: Sink = SINKS.resolve(scheme)(uri)
    return sink


class Sinks:
    """Several sinks written to as one; a sink that fails does not keep events from the others."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._watchers = [sink for sink in sinks if isinstance(sink, Watcher)]
        self._said: list[SinkError] = []

    @property
    def watched(self) -> bool:
        """True if one of them wants to know of frames."""
        return bool(self._watchers)

    def seen(
        self,
        frame: Frame,
        do: Decision,
        dropped: Mapping[DropReason, int],
        asks: Sequence[int] = (),
    ) -> None:
        """Tell those that want to know of a frame; what they say comes with the next event."""
        for watcher in self._watchers:
            try:
                watcher.seen(frame, do, dropped, asks)
            except SinkError as exc:
                self._said.append(exc)

    def write(self, told: Told) -> list[SinkError]:
        """Give one event to all of them, and what they have to say."""
        said, self._said = self._said, []
        for sink in self._sinks:
            try:
                sink.write(told)
            except SinkError as exc:
                said.append(exc)
        return said


@contextmanager
def open_sinks(uris: Sequence[str]) -> Iterator[list[Sink]]:
    """Open them all, or none; close them all, whatever happens.

    Raises:
        ConfigError: an unknown scheme or bad options.
        SinkError: one cannot be opened, or has lost events when it is closed.
    """
    with ExitStack() as stack:
        opened = []
        for uri in uris:
            sink = open_sink(uri)
            stack.callback(sink.close)
            opened.append(sink)
        yield opened
