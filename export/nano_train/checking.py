"""How often answers are right, to the letter, on pictures that no lesson draws.

They are made of the cut-outs that training knows: this tells whether a run goes well, and nothing
about what nano has never seen. That is what ``make eval`` asks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from edgevlm.export.nano_data.picture import Question
from edgevlm.export.nano_train.conversing import hidden_states
from edgevlm.export.nano_train.packing import NONE
from edgevlm.export.nano_train.school import School
from edgevlm.export.nano_train.sources import CUT_OUTS, EVALUATION, OTHERS, training_picture
from edgevlm.export.nano_train.trunk import FrozenTrunk
from edgevlm.tensors import Array

FIRST = EVALUATION - 10_000  # numbers that no cache reaches
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    arrays: dict[str, Array]
    questions: tuple[Question, ...]


class Check:
    """Some pictures with their stages, made once.

    Args:
        count: of pictures; one in four is of the others.
        questions: about each, at most.
    """

    def __init__(self, count: int, questions: int = 8) -> None:
        trunk = FrozenTrunk(threads=2)
        self._seen = []
        for n in range(count):
            kind = OTHERS if n % 4 == 3 else CUT_OUTS
            picture, asked = training_picture(kind, FIRST + n)
            stages = trunk.run(picture.image_rgb)
            arrays = {k: getattr(stages, k)[None] for k in ("fine", "middle", "narrow")}
            self._seen.append(_Seen(arrays, tuple(asked[:questions])))

    @torch.no_grad()
    def rates(self, school: School, side: int, *, blind: bool) -> dict[str, float]:
        """Share of answers that are exactly right, by kind of question.

        Args:
            school: with heads and language model.
            side: of the visual tokens.
            blind: every question is asked about the next picture instead of its own.
        """
        model = school.model
        right: dict[str, list[bool]] = defaultdict(list)
        for start in range(0, len(self._seen), _AT_ONCE):
            some = self._seen[start : start + _AT_ONCE]
            shown = [*some[1:], some[0]] if blind else some
            arrays = {n: np.concatenate([s.arrays[n] for s in shown]) for n in some[0].arrays}
            tokens = school.tokens(arrays, side)
            packed = school.packer.pack(side * side, [""] * len(some), [s.questions for s in some])
            hidden = hidden_states(model, tokens, packed)
            for row, one in enumerate(some):
                at = torch.nonzero(packed.targets[row] != NONE).flatten()
                scores = hidden[row, at] @ model.model.embed_tokens.weight.T
                hits = (scores.argmax(-1) == packed.targets[row, at]).tolist()
                for question in one.questions:
                    length = len(school.tokenizer.encode(question.answer).ids) + 1
                    right[question.kind].append(all(hits[:length]))
                    hits = hits[length:]
        return {kind: float(np.mean(values)) for kind, values in sorted(right.items())}
