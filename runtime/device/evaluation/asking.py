"""Asks a model many questions, each as ``ask`` would, at less cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgevlm.runtime.device.evaluation.example import Answered, Example
from edgevlm.runtime.model.vlm import Vlm

GREY = 127
SIDE = 224  # of the grey picture
_AT_ONCE = 64  # questions whose prompts are held at a time
Report = Callable[[int, int, str], None]


def answered(
    model: Vlm,
    examples: Sequence[Example],
    *,
    max_tokens: int = 32,
    report: Report = lambda _done, _total, _what: None,
) -> list[Answered]:
    """Ask every question of its picture, which goes through the encoder once.

    Args:
        model: a loaded bundle with vision and language.
        examples: the questions.
        max_tokens: of each answer.
        report: called after every picture.

    Returns:
        answers in the order of the questions.

    Raises:
        ContractError, ImageError, ContextOverflow, BackendError: as ``Vlm.ask``.
    """
    by_picture: dict[Any, list[int]] = {}
    for number, example in enumerate(examples):
        picture = example.picture
        key = id(picture) if isinstance(picture, np.ndarray) else picture
        by_picture.setdefault(key, []).append(number)
    found: dict[int, Answered] = {}
    for numbers in by_picture.values():
        picture = examples[numbers[0]].picture
        questions = [examples[n].question for n in numbers]
        said = _asked(model, picture, questions, max_tokens)
        for n, (text, sure) in zip(numbers, said, strict=True):
            found[n] = Answered(example=examples[n], text=text, confidence=sure)
        report(len(found), len(examples), "answers")
    return [found[n] for n in range(len(examples))]


def answered_blind(
    model: Vlm, examples: Sequence[Example], *, max_tokens: int = 32
) -> list[Answered]:
    """Ask the same of a plain grey picture: what can be answered without looking.

    Arguments, answers and errors as in ``answered``. The same words are asked once.
    """
    grey = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    questions = list(dict.fromkeys(example.question for example in examples))
    said = dict(zip(questions, _asked(model, grey, questions, max_tokens), strict=True))
    return [
        Answered(example=e, text=said[e.question][0], confidence=said[e.question][1])
        for e in examples
    ]


def _asked(
    model: Vlm, picture: Any, questions: Sequence[str], max_tokens: int
) -> Iterable[tuple[str, float | None]]:
    seen = model.encode(picture)
    for begin in range(0, len(questions), _AT_ONCE):
        some = questions[begin : begin + _AT_ONCE]
        for answer in model.ask_many(seen, some, max_tokens=max_tokens, together=False):
            yield answer.text, answer.confidence
