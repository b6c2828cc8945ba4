"""How much error a model of so many parameters makes with so many visual tokens.

``error = A / (billions ^ alpha * tokens ^ beta) + floor``

Source: Li et al., "Inference optimal VLMs need only one visual token but larger models", 2024
(arXiv 2411.03312), section 4; coefficients fitted to the table in its repository with the published
exponents. The fit of reading tasks misses by up to 3.6 points: rank with it, promise nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Law:
    """One kind of task; ``alpha`` is of parameters in billions, ``beta`` of visual tokens."""

    scale: float
    alpha: float
    beta: float
    floor: float

    def error(self, billions: float, tokens: float) -> float:
        """Share of wrong answers, in [0, 1] for sizes that the law was fitted on."""
        made: float = self.floor + self.scale / (
            billions**self.alpha * max(tokens, 1.0) ** self.beta
        )
        return made


LAWS: Mapping[str, Law] = {
    "reasoning": Law(scale=0.5534, alpha=0.077, beta=0.015, floor=0.0357),
    "reading": Law(scale=0.8264, alpha=0.029, beta=0.044, floor=0.0897),
}


def blended_error(billions: float, tokens: float, reading: float) -> float:
    """The laws' mean, ``reading`` in [0, 1] being the share of reading tasks."""
    parts = {"reasoning": 1.0 - reading, "reading": reading}
    return sum(share * LAWS[name].error(billions, tokens) for name, share in parts.items())


def best_tokens(question_tokens: float, law: Law, most: float) -> float:
    """Visual tokens with the least error at a fixed cost ``billions * (question + tokens)``.

    Where parameters count for more than tokens there is an optimum inside; else it is ``most``.
    """
    if law.alpha <= law.beta:
        return most
    return min(max(law.beta * question_tokens / (law.alpha - law.beta), 1.0), most)
