"""One stream: frames in, events out, and every frame accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.errors import BackendError, BackendGone, BackendMemoryError, SinkError, SourceError
from edgevlm.event import Event, SummaryEvent
from edgevlm.frame import Frame, FrameItem, FrameSource, SourceFault
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.asking import Asking
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.compose import (
    Notice,
    fault_event,
    overload_event,
    summary_event,
)
from edgevlm.runtime.stream.degraded import degraded_by
from edgevlm.runtime.stream.gates import chain_of
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.handover import HandOver
from edgevlm.runtime.stream.intake import Intake, position_s
from edgevlm.runtime.stream.lease import Lease, Sole
from edgevlm.runtime.stream.looking import Looked, Looking
from edgevlm.runtime.stream.mode import hand_over_of
from edgevlm.runtime.stream.model import Kept, Model
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.shedding import Shedding
from edgevlm.runtime.stream.sinks.base import Decision, Told, Watcher
from edgevlm.runtime.stream.telling import Telling, whole

MAX_FAILURES_IN_A_ROW = 3


class Stream:
    """Runs one source through one model.

    Args:
        config: settings.
        source: closed by whoever opened it, after the run.
        model: answers; used from the caller's thread only.
        clock: of ages, rates and limits.
        stopped: asked between frames and between tokens.
        watcher: told of every frame that is looked at.
        playback: takes the place of source and gate.
        kept: looks after the model, if anything does; asked after every frame.
        hand_over: makes what lies between a live source and the model.
        lease: on the model, where other streams ask it too.

    Raises:
        ConfigError: a mode that the source cannot keep, or a gate that the bundle does not fit.
        BundleError, ContractError, BackendError: a gate's bundle cannot be used.
    """

    def __init__(
        self,
        config: RunConfig,
        source: FrameSource,
        model: Model,
        clock: Clock = SYSTEM,
        stopped: Callable[[], bool] = lambda: False,
        watcher: Watcher | None = None,
        playback: Callable[[Account], Playback] | None = None,
        kept: Kept | None = None,
        hand_over: Callable[[RunConfig, bool], HandOver[FrameItem] | None] = hand_over_of,
        lease: Lease | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._model = model
        self._clock = clock
        self._watcher = watcher
        self._account = Account()
        together = len(config.ask) > 1 and not config.generation.draft
        self._lease = Shedding(lease or Sole(), together)
        if playback is None:
            between = hand_over(config, source.live)
            self._gates: Chain | Playback = chain_of(config, model.bundle.manifest, source.live)
            self._intake: Intake | Playback = Intake(
                config, source, between, self._account, clock, stopped, self._lease
            )
        else:
            self._gates = self._intake = playback(self._account)
        self._telling = Telling(config, self._account, degraded_by(model))
        self._next_seq = self._telling.next_seq
        self._failures = 0
        self._begun_ns = clock.monotonic_ns()
        self._looking = Looking(config, self._gates, self._lease, clock)
        self._asking = Asking(config, self._gates, self._intake.newest, clock, stopped, self._lease)
        self._kept = kept

    def events(self) -> Iterator[Event]:
        """Every event of the run, the summary last; errors as in ``told``."""
        return (told.event for told in self.told())

    def told(self) -> Iterator[Told]:
        """Every event of the run with its frame, the summary last.

        Raises:
            SourceError: the source failed; its fault and the summary have been yielded before.
            BackendError: likewise, after ``MAX_FAILURES_IN_A_ROW`` frames, or one ``BackendGone``.
            ContractError: the question does not fit the model.
        """
        failure: SourceError | BackendError | None = None
        try:
            for item in self._intake.items():
                if isinstance(item, SourceFault):
                    yield Told(fault_event(self._config.name, self._next_seq(), item))
                else:
                    yield from self._frame(item)
                yield from self._recover()
        except (SourceError, BackendError) as exc:
            failure = exc
            yield Told(fault_event(self._config.name, self._next_seq(), exc))
        finally:
            self._lease.give()  # whatever ended it: others wait for the model
            self._gates.close()
        yield Told(self._summary())
        if failure is not None:
            raise failure

    def fault(self, error: SinkError | BackendError | Notice) -> Told:
        """A fault outside the frames' way, under the stream's next number."""
        return Told(fault_event(self._config.name, self._next_seq(), error))

    def _recover(self) -> Iterator[Told]:
        """Between two frames: what became of the model, and the swap when there is another."""
        if self._kept is None:
            return
        for error in self._kept.poll():
            yield self.fault(error)
        if self._kept.model is not self._model:
            self._model = self._kept.model
            self._telling.another_model(degraded_by(self._model, self._lease.shed))

    def _frame(self, frame: Frame, waited: bool = False) -> Iterator[Told]:
        """What is told of a frame; ``waited``: the model is held for it already."""
        patience = self._asking.patience
        if not patience.young(frame):
            self._account.drop("stale")
            return
        now = position_s(frame, self._source.live)
        try:
            looked = self._looking.look(frame, now, self._model, waited)
        except (SourceError, BackendError) as exc:
            yield from self._failed(frame, exc)
            return
        asks = self._asks(looked, now)
        if not asks:
            self._lease.give()
            if looked.do == "reuse":
                yield from self._reuse(looked)
            elif looked.do != "answer":
                self._account.drop(looked.do)
            return
        if not looked.held:
            if not self._lease.take(frame):
                self._account.drop("shutdown")
                return
            if self._lease.shared and (newer := self._intake.newer()) is not None:
                self._account.drop("superseded")
                try:
                    yield from self._frame(newer, waited=True)
                finally:
                    self._lease.give()
                return
            if not patience.young(frame):
                self._lease.give()
                self._account.drop("stale")
                return
        wait_ms = looked.wait_ms(self._age_ms(frame))
        try:
            answers = self._asking.ask(self._model, looked.view, asks)
        except (SourceError, BackendError) as exc:
            yield from self._failed(frame, exc)
            return
        self._failures = 0
        young = patience.ended(all(map(whole, answers)))
        begun = any(whole(answer) or answer.token_ids for answer in answers)
        if patience.why == "superseded" or not young or not begun:
            self._account.drop(patience.reason(young))
            if (said := patience.overload()) is not None:
                yield Told(overload_event(self._config.name, self._next_seq(), said), frame)
            return
        yield from self._answered(looked, dict(zip(asks, answers, strict=True)), wait_ms)

    def _asks(self, looked: Looked, now_s: float) -> tuple[int, ...]:
        """The questions that a frame is asked: all, or those to which no answer stands, or none."""
        everything, lacking = self._telling.everything, self._telling.lacking
        if looked.do == "answer":
            return tuple(n for n in looked.asks if n in everything) or everything
        if looked.do != "reuse":
            return ()
        return lacking if lacking != everything and self._asking.stands(now_s) else everything

    def _answered(
        self, looked: Looked, answers: Mapping[int, Answer], wait_ms: float
    ) -> Iterator[Told]:
        """What is told of a frame that was asked these questions."""
        frame, age_ms = looked.view.frame, self._age_ms(looked.view.frame)
        standing = [n for n in self._telling.everything if n not in answers]
        wait_ms += self._lease.paused_ms
        answers = {n: looked.answered(a, wait_ms, age_ms) for n, a in answers.items()}
        self._account.answered += 1
        self._account.timed([answer.timings_ms for answer in answers.values()], age_ms)
        if not standing:  # else the scene is the one that other answers are about
            self._gates.accept()
        self._asking.heard()
        self._saw(frame, "answer", tuple(answers) if standing else ())
        yield from self._telling.answered(frame, answers, looked.view.now_s)
        yield from self._telling.stands(looked, age_ms, standing)

    def _age_ms(self, frame: Frame) -> float:
        return max(0, self._clock.monotonic_ns() - frame.monotonic_ns) / 1e6

    def _failed(self, frame: Frame, error: SourceError | BackendError) -> Iterator[Told]:
        self._account.failed += 1
        if isinstance(error, SourceError):  # its pixels cannot be read
            raise error
        self._saw(frame, "fail")
        told = error
        if isinstance(error, BackendMemoryError):
            told = self._lease.less(error, frame.pixels.size_wh)
            self._telling.degrade(degraded_by(self._model, self._lease.shed))
        self._failures += told is error
        if isinstance(error, BackendGone) or self._failures >= MAX_FAILURES_IN_A_ROW:
            raise error
        yield Told(fault_event(self._config.name, self._next_seq(), told), frame)

    def _reuse(self, looked: Looked) -> Iterator[Told]:
        frame = looked.view.frame
        self._account.reused += 1
        self._saw(frame, "reuse")
        everything = self._telling.everything
        if not (yield from self._telling.stands(looked, self._age_ms(frame), everything)):
            self._account.quiet += 1

    def _saw(self, frame: Frame, do: Decision, asks: tuple[int, ...] = ()) -> None:
        if self._watcher is not None:
            self._watcher.seen(frame, do, self._account.dropped, asks)

    def _summary(self) -> SummaryEvent:
        ran_s = (self._clock.monotonic_ns() - self._begun_ns) / 1e9
        seq, gates = self._next_seq(), self._gates.totals()
        return summary_event(self._config.name, seq, self._account, ran_s, gates)
