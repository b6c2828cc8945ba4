"""The closing figures of several streams together."""

from __future__ import annotations

from edgevlm.answer import Timing
from edgevlm.event import (
    AnswerEvent,
    BudgetTotals,
    Event,
    FrameTotals,
    GateTotals,
    SummaryEvent,
)
from edgevlm.runtime.stream.accounting import Account, peak_rss_mb, percentiles
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.token_budget import TokenBudget


class Totals:
    """Adds up what streams say.

    Args:
        name: the stream of the summary.
        clock: of the rate.
        budget: that the streams shared.
    """

    def __init__(self, name: str, clock: Clock, budget: TokenBudget | None = None) -> None:
        self._budget = budget
        self._name = name
        self._clock = clock
        self._begun_ns = clock.monotonic_ns()
        self._answers = Account()  # of which only what answers took is used
        self._frames: dict[str, list[AnswerEvent]] = {}  # new answers about one frame, by stream
        self._streams: dict[str, FrameTotals] = {}
        self._gates: dict[str, tuple[GateTotals, ...]] = {}

    def take(self, event: Event) -> None:
        """Note one event of one of the streams."""
        if isinstance(event, SummaryEvent):
            self._timed(event.stream)
            self._streams[event.stream] = event.frames
            self._gates |= event.gates
        elif isinstance(event, AnswerEvent) and not event.reused:
            if (about := self._frames.get(event.stream)) and about[0].frame != event.frame:
                self._timed(event.stream)
            self._frames.setdefault(event.stream, []).append(event)

    def _timed(self, stream: str) -> None:
        """Note what the answers about a stream's last frame took."""
        if about := self._frames.pop(stream, None):
            took = [Timing(**event.timings_ms.model_dump()) for event in about]
            self._answers.timed(took, about[0].age_ms)

    def summary(self) -> SummaryEvent:
        """The last event of the run."""
        for stream in list(self._frames):
            self._timed(stream)
        frames = self._sum()
        elapsed_s = (self._clock.monotonic_ns() - self._begun_ns) / 1e9
        return SummaryEvent(
            stream=self._name,
            seq=None,
            frames=frames,
            age_ms=percentiles(self._answers.ages_ms),
            stages_ms={k: percentiles(v) for k, v in self._answers.stages_ms.items()},
            answers_per_s=round(frames.answered / elapsed_s, 3) if elapsed_s > 0 else 0.0,
            peak_rss_mb=peak_rss_mb(),
            streams=self._streams,
            gates=self._gates,
            budget=None if self._budget is None else _told(self._budget, elapsed_s),
        )

    def _sum(self) -> FrameTotals:
        whole = Account()
        for frames in self._streams.values():
            whole.read += frames.read
            whole.answered += frames.answered
            whole.reused += frames.reused
            whole.failed += frames.failed
            whole.dropped.update(frames.dropped)
        return whole.totals()


def _told(budget: TokenBudget, elapsed_s: float) -> BudgetTotals:
    spent = sum(budget.spent.values())
    return BudgetTotals(
        visual_tokens_per_s=budget.rate,
        burst=round(budget.burst, 3),
        spent=budget.spent,
        spent_per_s=round(spent / elapsed_s, 3) if elapsed_s > 0 else 0.0,
    )
