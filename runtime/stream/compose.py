"""Put events together from frames, answers and the books."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgevlm.answer import Answer, Box
from edgevlm.errors import (
    BackendError,
    SinkError,
    SourceError,
    SourceStalled,
    SourceUnauthorized,
)
from edgevlm.event import (
    AnswerEvent,
    DropReason,
    FaultEvent,
    GateTotals,
    StateEvent,
    SummaryEvent,
    TimingsMs,
    Tokens,
    WindowFrame,
    boot_id,
    rfc3339,
)
from edgevlm.frame import Frame, SourceFault
from edgevlm.runtime.stream.accounting import Account, peak_rss_mb, percentiles
from edgevlm.runtime.stream.rules import Change


def answer_event(
    stream: str,
    seq: int,
    frame: Frame,
    answer: Answer,
    *,
    question: str,
    reused_of: int | None,
    pending: tuple[Mapping[DropReason, int], int],
    degraded: tuple[str, ...],
) -> AnswerEvent:
    """An answer about ``frame``; ``pending`` is drops by reason and quietly reused frames."""
    dropped, quiet = pending
    timings = {k: round(v, 3) for k, v in dataclasses.asdict(answer.timings_ms).items()}
    return AnswerEvent(
        kind=answer.kind,
        stream=stream,
        seq=seq,
        frame=frame.index,
        frame_id=frame.frame_id,
        media_s=None if frame.media_s is None else round(frame.media_s, 6),
        captured_at=rfc3339(frame.captured_ns),
        clock=frame.clock,
        monotonic_ns=frame.monotonic_ns,
        boot_id=boot_id(),
        age_ms=timings["total"],
        question=question,
        text=answer.text,
        answer=None if answer.answer is None else dict(answer.answer),
        finish_reason=answer.finish_reason,
        confidence=None if answer.confidence is None else round(answer.confidence, 4),
        field_confidence={k: round(v, 4) for k, v in answer.field_confidence.items()},
        calibrated=answer.calibrated,
        boxes_xyxy=tuple(_rounded(box) for box in answer.boxes_xyxy),
        reused=reused_of is not None,
        of=reused_of,
        reused_frames=quiet,
        dropped=dict(dropped),
        timings_ms=TimingsMs(**timings),
        tokens=Tokens(**dataclasses.asdict(answer.tokens)),
        window=tuple(
            WindowFrame(
                frame=shown.frame,
                age_s=round(shown.age_s, 3),
                stood_s=round(shown.stood_s, 3),
                tokens=shown.tokens,
            )
            for shown in answer.window
        ),
        backend=answer.backend,
        degraded=degraded,
    )


def _rounded(box: Box) -> Box:
    left, top, right, bottom = (round(edge, 1) for edge in box)
    return left, top, right, bottom


def state_event(change: Change, shown: AnswerEvent) -> StateEvent:
    """A state that begins or ends; ``shown`` has its frame, its answer and its ``seq``."""
    return StateEvent(
        **shown.model_dump(exclude={"kind"}),
        rule=change.rule,
        phase=change.phase,
        state_id=change.state_id,
        held_s=round(change.held_s, 3),
        evidence=change.evidence,
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """What a stream is told by those who look after all of them, or after its model."""

    code: Literal["overload", "throttled", "recovered"]
    message: str


def fault_event(
    stream: str,
    seq: int,
    error: SourceError | BackendError | SinkError | SourceFault | Notice,
) -> FaultEvent:
    """What went wrong, or is well again: a source's own words, or an error by its kind."""
    if isinstance(error, SourceFault | Notice):
        return FaultEvent(stream=stream, seq=seq, code=error.code, message=error.message)
    code: Literal["source", "stall", "auth", "backend", "sink"] = "source"
    if isinstance(error, SourceStalled):
        code = "stall"
    elif isinstance(error, SourceUnauthorized):
        code = "auth"
    elif isinstance(error, BackendError):
        code = "backend"
    elif isinstance(error, SinkError):
        code = "sink"
    return FaultEvent(stream=stream, seq=seq, code=code, message=str(error))


def overload_event(stream: str, seq: int, message: str) -> FaultEvent:
    """The model is too slow for what was asked of it."""
    return FaultEvent(stream=stream, seq=seq, code="overload", message=message)


def summary_event(
    stream: str,
    seq: int,
    account: Account,
    elapsed_s: float,
    gates: tuple[GateTotals, ...] = (),
) -> SummaryEvent:
    """The closing figures of one stream."""
    if not account.balanced():
        raise AssertionError(f"frames are lost between the books: {account.totals()}")
    totals = account.totals()
    return SummaryEvent(
        stream=stream,
        seq=seq,
        frames=totals,
        age_ms=percentiles(account.ages_ms),
        stages_ms={k: percentiles(v) for k, v in account.stages_ms.items()},
        answers_per_s=round(account.answered / elapsed_s, 3) if elapsed_s > 0 else 0.0,
        peak_rss_mb=peak_rss_mb(),
        streams={stream: totals},
        gates={stream: gates},
    )
