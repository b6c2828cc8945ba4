"""Many questions about one picture in one row: they share the picture and do not see each other.

::

    head | visual tokens | labels | question 1 answer 1 | question 2 answer 2 | ...

Every question stands right behind the picture as far as positions and attention go, as if it were
the only one: what the model learns is what it is asked to do later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from edgevlm.bundle.prompt import LabelPrompt
from edgevlm.export.nano.recipe import LABELS, SYSTEM
from edgevlm.export.nano_data.picture import Question
from edgevlm.tensors import Array

NONE = -100
VISUAL = -1
SHARED = 0  # the part of a row that all its questions see


@dataclass(slots=True)
class _Row:
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, ids: Sequence[int], start: int, part: int) -> None:
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.parts += [part] * len(ids)
        self.targets += [NONE] * len(ids)
        self.weights += [0.0] * len(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A batch of rows.

    Args:
        ids: int64 ``(batch, length)``, ``VISUAL`` where visual tokens come.
        positions: int64 ``(batch, length)``.
        seen: bool ``(batch, 1, length, length)``, what each position attends to.
        targets: int64 ``(batch, length)``, the next token, ``NONE`` where none is learnt.
        weights: float32 ``(batch, length)``; those of one answer sum to 1.
    """

    ids: Tensor
    positions: Tensor
    seen: Tensor
    targets: Tensor
    weights: Tensor


class Packer:
    """Lays pictures, questions and answers out as the runtime's prompt does.

    Args:
        tokenizer: of the language model.
        end: the token that ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self._head = self._ids(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, visual: int, labels: str, question: str) -> list[int]:
        """Ids of one question, up to where its answer begins."""
        return [
            *self._head,
            *[VISUAL] * visual,
            *self._ids(labels),
            *self._question(question, labels),
        ]

    def _question(self, text: str, labels: str) -> list[int]:
        space = " " if labels else ""
        return self._ids(f"{space}{text}<|im_end|>\n<|im_start|>assistant\n")

    def pack(
        self, visual: int, labels: Sequence[str], questions: Sequence[Sequence[Question]]
    ) -> Packed:
        """Rows of one batch, padded behind.

        Args:
            visual: visual tokens of every picture.
            labels: the sentence of labels of every picture, without a space behind it; or "".
            questions: about every picture.
        """
        rows = []
        for sentence, asked in zip(labels, questions, strict=True):
            row = _Row()
            shared = [*self._head, *[VISUAL] * visual, *self._ids(sentence)]
            row.add(shared, 0, SHARED)
            for n, question in enumerate(asked, start=1):
                before = self._question(question.text, sentence)
                answer = [*self._ids(question.answer), self._end]
                at = len(row.ids) + len(before) - 1
                row.add([*before, *answer[:-1]], len(shared), n)
                row.targets[at : at + len(answer)] = answer
                row.weights[at : at + len(answer)] = [1 / len(answer)] * len(answer)
            rows.append(row)
        return _stacked(rows)


def _stacked(rows: Sequence[_Row]) -> Packed:
    length = max(len(r.ids) for r in rows)

    def padded(name: str, fill: float, kind: type) -> Array:
        found: Array = np.full((len(rows), length), fill, kind)
        for n, row in enumerate(rows):
            values = getattr(row, name)
            found[n, : len(values)] = values
        return found

    parts = padded("parts", -1, np.int64)
    order = np.arange(length)
    seen = (order[None, :, None] >= order[None, None, :]) & (
        (parts[:, None, :] == SHARED) | (parts[:, None, :] == parts[:, :, None])
    )
    return Packed(
        ids=torch.as_tensor(padded("ids", 0, np.int64)),
        positions=torch.as_tensor(padded("positions", 0, np.int64)),
        seen=torch.as_tensor(seen[:, None]),
        targets=torch.as_tensor(padded("targets", NONE, np.int64)),
        weights=torch.as_tensor(padded("weights", 0, np.float32)),
    )


def label_sentence(labels: Sequence[tuple[str, float]], rule: LabelPrompt = LABELS) -> str:
    """What the runtime writes about them, without the space behind it."""
    kept = [
        rule.item.format(name=name, percent=round(100 * p))
        for n, (name, p) in enumerate(labels[: rule.top])
        if n == 0 or p >= rule.min_probability
    ]
    return rule.template.format(labels=", ".join(kept)).strip()
