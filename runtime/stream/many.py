"""Many streams over one model: each on a thread of its own, and one thread that writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgevlm.errors import EdgeVLMError, SinkError
from edgevlm.event import AnswerEvent, DropReason, Event, StateEvent, SummaryEvent
from edgevlm.frame import Frame
from edgevlm.runtime.stream.caps import Capped
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.funnel import Funnel
from edgevlm.runtime.stream.handover import feed
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.sinks import Sinks
from edgevlm.runtime.stream.sinks.base import Decision, Told
from edgevlm.runtime.stream.totals import Totals

STOP_S = 10.0  # for streams to end when nobody reads their events any more


class Stop:
    """When all streams are to end: whoever started them says so, or the run itself.

    Args:
        stopped: of whoever started them.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self.ending = False

    def __call__(self) -> bool:
        """True from then on."""
        return self.ending or self._stopped()


@dataclass(frozen=True, slots=True)
class _Looked:
    """A frame that was looked at, for sinks that want to know."""

    frame: Frame
    do: Decision
    dropped: dict[DropReason, int]
    asks: tuple[int, ...]


Item = tuple["Line", "Told | _Looked"]


class Line:
    """One stream among others: what its thread runs, and what the writer has to tell it.

    Args:
        name: of the stream.
        funnel: to the writer.
        stop: of all streams.
        capped: what streams may use at most, which their events then say.
    """

    def __init__(
        self, name: str, funnel: Funnel[Item], stop: Stop, capped: Capped | None = None
    ) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.sinks = Sinks(())
        self._funnel = funnel
        self._stop = stop
        self._said: deque[SinkError | Notice] = deque()
        self._capped = capped or Capped()

    def seen(
        self,
        frame: Frame,
        do: Decision,
        dropped: Mapping[DropReason, int],
        asks: Sequence[int] = (),
    ) -> None:
        """Pass on that a frame was looked at; see ``Watcher``."""
        if self.sinks.watched:
            self._funnel.put((self, _Looked(frame, do, dict(dropped), tuple(asks))))

    def start(self, stream: Stream) -> None:
        """Run the stream on its thread."""
        feed(self._funnel.entry(self._ended), self._items(stream), name=f"edgevlm-{self.name}")

    def say(self, notice: SinkError | Notice) -> None:
        """Have the stream tell this, under its own next number."""
        self._said.append(notice)

    def _items(self, stream: Stream) -> Iterator[Item]:
        yield from self._faults(stream)
        for told in stream.told():
            yield self, self._marked(told)
            if not isinstance(told.event, SummaryEvent):
                yield from self._faults(stream)

    def _marked(self, told: Told) -> Told:
        why, event = self._capped.now.why, told.event
        if not why or not isinstance(event, AnswerEvent | StateEvent):
            return told
        degraded = (*event.degraded, why)
        return Told(event.model_copy(update={"degraded": degraded}), told.frame)

    def _faults(self, stream: Stream) -> Iterator[Item]:
        while self._said:
            yield self, stream.fault(self._said.popleft())

    def _ended(self, error: BaseException | None) -> None:
        self.failure = error
        if error is not None and not isinstance(error, EdgeVLMError):
            self._stop.ending = True  # a fault of ours: nothing goes on as if it were well

    def write(self, item: Told | _Looked) -> Iterator[Event]:
        """Give an item to the sinks, and then its event to the reader."""
        if isinstance(item, _Looked):
            self.sinks.seen(item.frame, item.do, item.dropped, item.asks)
            return
        self._said.extend(self.sinks.write(item))
        yield item.event

    @property
    def unsaid(self) -> list[SinkError]:
        """What sinks said behind the stream's last event."""
        return [error for error in self._said if isinstance(error, SinkError)]


def merged(
    lines: Mapping[Line, Stream],
    funnel: Funnel[Item],
    stop: Stop,
    totals: Totals,
    shared: Sinks,
    each: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """The events of all streams as they come, each one's summary last, then that of them all.

    Args:
        lines: with the streams that they run.
        funnel: that they lead to.
        stop: set when the reader goes.
        totals: of the closing summary.
        shared: the sinks that get this summary.
        each: called before every event, and now and then while none comes.

    Raises:
        SourceError, BackendError: a stream failed; the others have gone on to their end.
        SinkError: a sink lost events at the end.
    """
    try:
        each()
        for line, stream in lines.items():
            line.start(stream)
        for line, item in funnel.items(each):
            for event in line.write(item):
                totals.take(event)
                yield event
    finally:
        stop.ending = True
        funnel.close(STOP_S)
    for line in lines:
        if line.failure is not None and not isinstance(line.failure, EdgeVLMError):
            raise line.failure
    last = Told(totals.summary())
    said = [error for line in lines for error in line.unsaid] + shared.write(last)
    yield last.event
    _raise([(line.name, line.failure) for line in lines if line.failure is not None], len(lines))
    if said:
        raise said[0]


def _raise(failures: Sequence[tuple[str, BaseException]], of: int) -> None:
    """One error for those of the streams, of the first one's kind."""
    if not failures:
        return
    first = failures[0][1]
    words = "; ".join(f"{name}: {error}" for name, error in failures)
    raise type(first)(f"{len(failures)} of {of} streams failed: {words}") from first
