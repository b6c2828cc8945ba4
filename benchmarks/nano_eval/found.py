"""All that was measured of one bundle, as values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from benchmarks.anomaly import Told
from benchmarks.locate import Looked
from benchmarks.nano_eval.costs import Costs
from benchmarks.nano_eval.heads import Mean, Segmented
from benchmarks.nano_eval.questions import SetScores
from edgevlm.runtime.device.evaluation.calibration import Bin
from edgevlm.runtime.device.evaluation.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What the encoder's heads find; None where the bundle lacks one.

    Args:
        segmented: labels of pixels.
        by_point: masks of a point in every thing.
        by_box: masks of its box.
        classified: names of the one thing of a picture, chosen among ``labels``.
        labels: how many.
        classified_bins: how sure those were.
        classes: agreement with the encoder's own ImageNet head on photographs.
        lacks: what the bundle cannot do.
    """

    segmented: Segmented | None = None
    by_point: Mean | None = None
    by_box: Mean | None = None
    classified: Share | None = None
    labels: int = 0
    classified_bins: tuple[Bin, ...] = ()
    classes: Share | None = None
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything; what was not asked for is empty.

    Args:
        bundle_id: of the bundle.
        precision: of its decoder.
        count: questions of a kind, as asked for.
        machine: processor and threads.
        sets: scores of questions.
        answers_bins: how sure its answers to the compositions were.
        budgets: right answers by number of visual tokens and kind of question.
        heads: what the encoder's heads find.
        anomalies: how well defects are told from good pictures.
        located: how well things are found again that were shown three times.
        costs: time and memory.
        seconds: that the whole took.
    """

    bundle_id: str
    precision: str
    count: int
    machine: str
    sets: tuple[SetScores, ...] = ()
    answers_bins: tuple[Bin, ...] = ()
    budgets: Mapping[int, Mapping[str, Share]] | None = None
    heads: Heads | None = None
    anomalies: tuple[Told, ...] = ()
    located: Looked | None = None
    costs: Costs | None = None
    seconds: float = 0.0


def plain(value: Any) -> Any:
    """A record as what JSON can hold; shares with their intervals, pictures left out."""
    if isinstance(value, Share):
        return value.plain()
    if isinstance(value, SetScores):
        kept = {name: plain(getattr(value, name)) for name in ("name", "seen", "described")}
        said = [
            {"question": a.example.question, "answers": a.example.answers, "said": a.text,
             "kind": a.example.kind, "confidence": a.confidence}
            for a in value.answers
        ]  # fmt: skip
        boxes = plain(value.boxed)
        return {**kept, "boxed": boxes, "scores": plain(value.scores), "answers": said}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
