"""Perception in the place of a question: what a stream's frames are looked at for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.answer import Answer, AnswerKind, Box, Timing, TokenCounts
from edgevlm.bundle.abilities import require
from edgevlm.runtime.model.text_encoder import checked_labels
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.anomaly import NormalBank, anomaly
from edgevlm.runtime.perception.locate import Located, locate
from edgevlm.runtime.perception.sentence import sentence, things_seen
from edgevlm.runtime.perception.things import load_things
from edgevlm.runtime.stream.wrapped import Wrapped
from edgevlm.tasks import TaskSection

LABELS_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a task found in one picture.

    Args:
        text: in words.
        answer: in figures, as the event's ``answer``.
        kind: of the event.
        boxes_xyxy: in pixels of the picture.
        confidence: in [0, 1]; None where the task gives none.
    """

    text: str
    answer: Mapping[str, Any]
    kind: AnswerKind = "answer"
    boxes_xyxy: tuple[Box, ...] = ()
    confidence: float | None = None


Task = Callable[[Any], Finding]


def open_task(section: TaskSection, model: Vlm) -> Task:
    """The task, with its banks read.

    Raises:
        ContractError: the bundle cannot do it, or labels that cannot be chosen among.
        BankError: a bank cannot be used.
    """
    if section.kind in ("classify", "segment"):
        require(model.bundle.manifest, section.kind)
        checked_labels(section.labels)
        return _classify(section, model) if section.kind == "classify" else _segment(section, model)
    require(model.bundle.manifest, "match")
    return _anomaly(section, model) if section.kind == "anomaly" else _locate(section, model)


def _classify(section: TaskSection, model: Vlm) -> Task:
    def look(picture: Any) -> Finding:
        found = model.classify(picture, section.labels, section.template, none=section.none)
        told = [{"label": name, "probability": round(p, 4)} for name, p in found[:LABELS_TOLD]]
        best, share = found[0]
        return Finding(text=best, answer={"label": best, "labels": told}, confidence=share)

    return look


def _segment(section: TaskSection, model: Vlm) -> Task:
    def look(picture: Any) -> Finding:
        found = model.segment(picture, section.labels, section.template).shares()
        shares = dict(sorted(found.items(), key=lambda pair: -pair[1]))
        seen = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005]
        rounded = {name: round(share, 4) for name, share in shares.items()}
        return Finding(text=", ".join(seen), answer={"shares": rounded})

    return look


def _anomaly(section: TaskSection, model: Vlm) -> Task:
    bank = NormalBank.load(Path(section.banks[0]), model)

    def look(picture: Any) -> Finding:
        found = anomaly(model, picture, bank)
        figures = {
            "unlike": found.unlike,
            "score": round(found.score, 4),
            "threshold": round(found.threshold, 4),
        }
        boxes = tuple(region.box_xyxy for region in found.regions) if found.unlike else ()
        return Finding(text=sentence(found, bank), answer=figures, kind="anomaly", boxes_xyxy=boxes)

    return look


def _locate(section: TaskSection, model: Vlm) -> Task:
    things = load_things([Path(bank) for bank in section.banks], model)

    def look(picture: Any) -> Finding:
        found = locate(model, picture, things, small=section.small).found
        return Finding(
            text=things_seen(found, picture.shape[:2]),
            answer={"things": [_named(one) for one in found]},
            kind="detection",
            boxes_xyxy=tuple(one.box_xyxy for one in found),
        )

    return look


def _named(one: Located) -> dict[str, Any]:
    """One of the event's things; its box has the same number among the event's boxes."""
    return {name: value for name, value in one.told().items() if name != "box_xyxy"}


class TaskModel(Wrapped):
    """A loaded bundle that meets every picture with a task, whatever it is asked.

    Args:
        model: the bundle; closed with this.
        section: the task.

    Raises:
        ContractError, BankError: as ``open_task``; the model is closed then.
    """

    def __init__(self, model: Vlm, section: TaskSection) -> None:
        super().__init__(model)
        try:
            self._look = open_task(section, model)
        except BaseException:
            model.close()
            raise

    def ask(self, image: Any = None, question: str | None = None, **_: Any) -> Answer:  # noqa: ARG002
        """What the task finds in a picture: uint8 RGB, or ``Encoded`` where it takes that.

        Raises:
            ContractError: a picture that the task does not take.
            BackendError: the engine failed.
        """
        begun = time.perf_counter_ns()
        found = self._look(image)
        spent = (time.perf_counter_ns() - begun) / 1e6
        return Answer(
            text=found.text,
            token_ids=(),
            finish_reason="stop",
            timings_ms=Timing(encode=spent, total=spent),
            tokens=TokenCounts(),
            backend=self._model.backend.name,
            answer=found.answer,
            confidence=found.confidence,
            kind=found.kind,
            boxes_xyxy=found.boxes_xyxy,
        )

    def ask_many(self, image: Any, questions: Sequence[Any], **_: Any) -> list[Answer]:
        """The same for each."""
        return [self.ask(image) for _ in questions]
