"""The event: what a stream says, one JSON object a line (``docs/event.schema.json``)."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edgevlm.frame import SourceFaultCode

DropReason = Literal[
    "superseded",  # a newer frame came before it was looked at, or overtook its answer
    "stale",  # older than the bound
    "sampled",  # between two frames of the rate
    "overflow",
    "undecodable",
    "moving",  # a gate waits until the view is still
    "absent",  # a gate waits for something that is not in the picture
    "shutdown",  # the run ended first
]
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)


class _Wire(BaseModel):
    # Every field is written every time, so the published schema promises every field.
    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_serialization_defaults_required=True
    )


class _Event(_Wire):
    v: Literal[1] = 1
    stream: str = Field(description="name of the stream")


class _Numbered(_Event):
    seq: int = Field(ge=0, description="gapless per stream, from 0")
    kind: str


class TimingsMs(_Wire):
    """Milliseconds per stage."""

    wait: float = Field(ge=0)
    gate: float = Field(ge=0)
    preprocess: float = Field(ge=0)
    encode: float = Field(ge=0)
    prefill: float = Field(ge=0)
    decode: float = Field(ge=0)
    total: float = Field(ge=0)


class Tokens(_Wire):
    """Token counts of the answer; a reused one spent none."""

    visual: int = Field(ge=0)
    prompt: int = Field(ge=0)
    output: int = Field(ge=0)
    drafted: int = Field(ge=0)
    accepted: int = Field(ge=0)
    forced: int = Field(ge=0)


class WindowFrame(_Wire):
    """A frame that the model was shown."""

    frame: int = Field(ge=0, description="index of the frame in its source")
    age_s: float = Field(ge=0, description="how much older it is than the newest one shown")
    stood_s: float = Field(ge=0, description="how long the scene was unchanged after it")
    tokens: int = Field(ge=0, description="visual tokens that it got")


class _FrameEvent(_Numbered):
    frame: int = Field(ge=0, description="index of the frame in its source")
    frame_id: str | None = Field(default=None, description="frame_id of a ROS header")
    media_s: float | None = Field(description="position in the source, seconds")
    captured_at: str = Field(description="RFC 3339, UTC, milliseconds")
    clock: Literal["arrival", "pts", "header", "sender"]
    monotonic_ns: int = Field(ge=0, description="when the frame reached this process")
    boot_id: str | None = Field(description="monotonic times of one boot compare")
    age_ms: float = Field(ge=0, description="from the frame's arrival to this event")
    question: str = Field(default="", description="what was asked, word for word")
    text: str
    answer: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "deadline", "cancelled"]
    confidence: float | None = Field(ge=0, le=1)
    field_confidence: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="of each value in answer, by JSON pointer"
    )
    calibrated: bool = Field(
        default=False,
        description="the bundle scales both confidences to be shares of right answers; else they "
        "are the model's own, uncalibrated",
    )
    boxes_xyxy: tuple[tuple[float, float, float, float], ...] = ()
    reused: bool = Field(description="the scene is unchanged and the last answer stands")
    of: int | None = Field(description="seq of the answer that is reused")
    reused_frames: int = Field(ge=0, description="reused since the last event, without their own")
    dropped: dict[DropReason, int] = Field(description="frames since the last event, by reason")
    timings_ms: TimingsMs
    tokens: Tokens
    window: tuple[WindowFrame, ...] = Field(
        default=(), description="the frames shown, oldest first; empty without a window"
    )
    backend: str
    degraded: tuple[str, ...] = ()


class AnswerEvent(_FrameEvent):
    """An answer about one frame, new or still standing; of a task, what it found there."""

    kind: Literal["answer", "detection", "anomaly"] = "answer"


class StateEvent(_FrameEvent):
    """A rule's state begins or ends; the other fields are those of the answer that made it so."""

    kind: Literal["state"] = "state"
    rule: str = Field(description="name of the rule")
    phase: Literal["begin", "end"]
    state_id: str = Field(description="the same for a beginning and its end")
    held_s: float = Field(ge=0, description="how long the state has been on; 0 at its beginning")
    evidence: tuple[int, ...] = Field(description="seq of the answers on which it rests")


class FaultEvent(_Numbered):
    """Something went wrong and the stream goes on, or ends with the next event."""

    kind: Literal["fault"] = "fault"
    code: Literal[SourceFaultCode, "backend", "sink", "overload", "throttled"]
    message: str


class FrameTotals(_Wire):
    """Every frame that was read: read = answered + reused + sum(dropped) + failed."""

    read: int = Field(ge=0)
    answered: int = Field(ge=0)
    reused: int = Field(ge=0)
    dropped: dict[DropReason, int]
    failed: int = Field(ge=0)


class Percentiles(_Wire):
    """Over the last 4096 values; None without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class GateTotals(_Wire):
    """One gate: asked = stopped + due + those that it let through."""

    name: str
    kind: str
    asked: int = Field(ge=0, description="frames")
    stopped: int = Field(ge=0, description="frames that it kept from an answer of their own")
    due: int = Field(ge=0, description="frames for which it overruled the gates behind it")
    ms: Percentiles = Field(description="what asking it took, its model included")
    measure: Percentiles = Field(description="what its verdicts rest on, as docs/gates.md says")


class BudgetTotals(_Wire):
    """What streams spent of the visual tokens that they were given together."""

    visual_tokens_per_s: float = Field(gt=0, description="declared")
    burst: float = Field(gt=0, description="tokens that may be saved up")
    spent: dict[str, int] = Field(description="visual tokens by stream, answers given up included")
    spent_per_s: float = Field(ge=0, description="of all streams, over the run")


class SummaryEvent(_Event):
    """The last event of a stream; of several streams together the last event of the run."""

    seq: int | None = Field(ge=0, description="as of other events; null where it sums up streams")
    kind: Literal["summary"] = "summary"
    frames: FrameTotals
    age_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    answers_per_s: float = Field(ge=0)
    peak_rss_mb: float = Field(ge=0)
    streams: dict[str, FrameTotals]
    gates: dict[str, tuple[GateTotals, ...]] = Field(
        default={}, description="by stream, in the order in which they are asked"
    )
    budget: BudgetTotals | None = Field(default=None, description="of several streams together")


Event = Union[AnswerEvent, StateEvent, FaultEvent, SummaryEvent]  # noqa: UP007 - pydantic on 3.10
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def rfc3339(unix_ns: int) -> str:
    """UTC with milliseconds, as in ``2026-01-31T12:00:00.000Z``."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


@cache
def boot_id() -> str | None:
    """The kernel's random id of this boot, where there is one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
