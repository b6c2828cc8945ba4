"""One stream: frames in, events out, and every frame accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.errors import BackendError, BackendGone, SinkError, SourceError
from edgevlm.event import AnswerEvent, Event, SummaryEvent
from edgevlm.frame import Frame, FrameItem, FrameSource, SourceFault
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.asking import Asking
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.compose import (
    Notice,
    answer_event,
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
from edgevlm.runtime.stream.sinks.base import Decision, Told, Watcher
from edgevlm.runtime.stream.standing import Standing
from edgevlm.runtime.stream.states import States

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
        self._lease = lease or Sole()
        if playback is None:
            between = hand_over(config, source.live)
            self._gates: Chain | Playback = chain_of(config, model.bundle.manifest, source.live)
            self._intake: Intake | Playback = Intake(
                config, source, between, self._account, clock, stopped, self._lease
            )
        else:
            self._gates = self._intake = playback(self._account)
        self._standing = Standing(config.policy.reuse_every_s)
        self._seq = self._failures = 0
        self._begun_ns = clock.monotonic_ns()
        self._looking = Looking(config, self._gates, self._lease, clock)
        self._asking = Asking(config, self._gates, self._intake.newest, clock, stopped, self._lease)
        self._kept = kept
        self._degraded = degraded_by(model)
        self._states = States(config.rules, config.name, self._next_seq, self._degraded)

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
            self._degraded = self._states.degraded = degraded_by(self._model)
            self._standing.answer = None  # the next frame is answered by what was asked for

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
        do = looked.do
        if do == "reuse" and not (self._standing.answer and self._asking.stands(now)):
            do = "answer"
        if do != "answer":
            self._lease.give()
            if do == "reuse":
                yield from self._reuse(looked)
            else:
                self._account.drop(do)
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
            answer = self._asking.ask(self._model, looked.view)
        except (SourceError, BackendError) as exc:
            yield from self._failed(frame, exc)
            return
        self._failures = 0
        whole = answer.finish_reason in ("stop", "length")
        young = patience.ended(whole)
        if patience.why == "superseded" or not young or not (whole or answer.token_ids):
            self._account.drop(patience.reason(young))
            if (said := patience.overload()) is not None:
                yield Told(overload_event(self._config.name, self._next_seq(), said), frame)
            return
        self._account.answered += 1
        self._gates.accept()
        self._asking.heard()
        wait_ms += self._lease.paused_ms
        answer = looked.answered(answer, wait_ms, self._age_ms(frame))
        self._account.timed(answer.timings_ms, answer.timings_ms.total)
        self._standing.answered(answer if whole else None, self._seq, now)
        self._saw(frame, "answer")
        yield Told(event := self._event(frame, answer, reused_of=None), frame)
        yield from self._states.answered(event, frame, answer, now)

    def _age_ms(self, frame: Frame) -> float:
        return max(0, self._clock.monotonic_ns() - frame.monotonic_ns) / 1e6

    def _failed(self, frame: Frame, error: SourceError | BackendError) -> Iterator[Told]:
        self._account.failed += 1
        if isinstance(error, SourceError):  # its pixels cannot be read
            raise error
        self._failures += 1
        self._saw(frame, "fail")
        if isinstance(error, BackendGone) or self._failures >= MAX_FAILURES_IN_A_ROW:
            raise error
        yield Told(fault_event(self._config.name, self._next_seq(), error), frame)

    def _reuse(self, looked: Looked) -> Iterator[Told]:
        frame, stands = looked.view.frame, self._standing
        assert stands.answer is not None
        self._account.reused += 1
        self._saw(frame, "reuse")
        answer, now = looked.once_more(stands.answer, self._age_ms(frame)), looked.view.now_s
        if stands.tell(now):
            yield Told(self._event(frame, answer, reused_of=stands.seq), frame)
        else:
            self._account.quiet += 1
        yield from self._states.stands(frame, answer, now)

    def _saw(self, frame: Frame, do: Decision) -> None:
        if self._watcher is not None:
            self._watcher.seen(frame, do, self._account.dropped)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq - 1

    def _event(self, frame: Frame, answer: Answer, reused_of: int | None) -> AnswerEvent:
        return answer_event(
            self._config.name,
            self._next_seq(),
            frame,
            answer,
            reused_of=reused_of,
            pending=self._account.take_pending(),
            degraded=self._degraded,
        )

    def _summary(self) -> SummaryEvent:
        ran_s = (self._clock.monotonic_ns() - self._begun_ns) / 1e9
        seq, gates = self._next_seq(), self._gates.totals()
        return summary_event(self._config.name, seq, self._account, ran_s, gates)
