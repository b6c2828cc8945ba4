"""Events for sinks: made as the pipeline makes them."""

from __future__ import annotations

import numpy as np

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.errors import SourceStalled
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.stream.compose import answer_event, fault_event
from edgevlm.runtime.stream.sinks.base import Told

SECOND = 1_000_000_000
START_NS = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z


def told(
    seq: int,
    text: str = "a cat",
    at_s: float = 0.0,
    answer: dict | None = None,
    stream: str = "main",
    question: str = "What is it?",
) -> Told:
    """An answer about a grey frame captured ``at_s`` seconds into 2026."""
    frame = Frame(
        index=seq,
        pixels=ArrayPixels(np.full((90, 160, 3), 99, np.uint8)),
        captured_ns=START_NS + round(at_s * SECOND),
        monotonic_ns=round(at_s * SECOND),
    )
    said = Answer(
        text=text,
        token_ids=(1,),
        answer=answer,
        confidence=None,
        finish_reason="stop",
        timings_ms=Timing(total=1.0),
        tokens=TokenCounts(),
        backend="ort-cpu",
    )
    event = answer_event(
        stream,
        seq,
        frame,
        said,
        question=question,
        reused_of=None,
        pending=({}, 0),
        degraded=(),
    )
    return Told(event, frame)


def fault(seq: int) -> Told:
    return Told(fault_event("main", seq, SourceStalled("no frames for 10 s")))
