"""A model that is told, with every question, which known things the frame shows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevlm.answer import Answer
from edgevlm.errors import ContractError
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.knowing import known_text
from edgevlm.runtime.perception.locate import Located, locate
from edgevlm.runtime.perception.things import load_things
from edgevlm.runtime.stream.wrapped import Wrapped


class KnowingModel(Wrapped):
    """A loaded bundle that recognises known things in every frame before it is asked about it.

    Args:
        model: the bundle; closed with this.
        known: banks of things, or folders of them.

    Raises:
        ContractError: the bundle has no head that holds patches against a bank.
        BankError: a bank cannot be used. The model is closed in either case.
    """

    def __init__(self, model: Vlm, known: Sequence[str]) -> None:
        super().__init__(model)
        try:
            model.matcher()
            self._things = load_things([Path(path) for path in known], model)
        except BaseException:
            model.close()
            raise

    def ask(self, image: Any = None, question: str | None = None, **options: Any) -> Answer:
        """As ``Vlm.ask``, about one uint8 RGB picture, with what is known before the question."""
        encoded, found, told, spent_ms = self._look(image)
        answer = self._model.ask(encoded, told + (question or ""), **options)
        return _with(answer, found, spent_ms)

    def ask_many(self, image: Any, questions: Sequence[Any], **options: Any) -> list[Answer]:
        """As ``Vlm.ask_many``; the first answer bears what recognising took."""
        encoded, found, told, spent_ms = self._look(image)
        asked = [(told + q, None) if isinstance(q, str) else (told + q[0], q[1]) for q in questions]
        first, *others = self._model.ask_many(encoded, asked, **options)
        return [_with(first, found, spent_ms), *(_with(other, found, 0.0) for other in others)]

    def _look(self, image: Any) -> tuple[Any, tuple[Located, ...], str, float]:
        if image is None:
            raise ContractError("known things are recognised in pictures, and none came")
        begun = time.perf_counter_ns()
        encoded = self._model.encode(image)
        found = locate(self._model, image, self._things, encoded=encoded).found
        spent_ms = (time.perf_counter_ns() - begun) / 1e6
        return encoded, found, known_text(found, encoded.source), spent_ms


def _with(answer: Answer, found: tuple[Located, ...], spent_ms: float) -> Answer:
    took = answer.timings_ms
    return dataclasses.replace(
        answer,
        boxes_xyxy=tuple(one.box_xyxy for one in found),
        timings_ms=dataclasses.replace(
            took, encode=took.encode + spent_ms, total=took.total + spent_ms
        ),
    )
