"""Which pictures nano is trained on: one for every number, the same on every machine.

A number below ``EVALUATION`` makes a training picture. Evaluation takes numbers from there on, and
other cut-outs: nothing here ever asks for those that are held out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.export.nano_data import emoji
from edgevlm.export.nano_data.displays import display
from edgevlm.export.nano_data.gauges import gauge
from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.picture import Picture, Question
from edgevlm.export.nano_data.printed import printed
from edgevlm.export.nano_data.questions import Asker
from edgevlm.export.nano_data.scenes import SceneMaker, photographs
from edgevlm.export.nano_data.stamps import training_stamps

EVALUATION = 1_000_000
CUT_OUTS, OTHERS = "cut-outs", "others"
_OTHERS = (inspection, gauge, inspection, display, printed)


@lru_cache(maxsize=1)
def scene_maker() -> SceneMaker:
    """Of training stamps, chosen twice as often, and emoji."""
    stamps = training_stamps()
    return SceneMaker(cut_outs=(stamps, stamps, emoji.pictographs()), backgrounds=photographs())


@lru_cache(maxsize=1)
def asker() -> Asker:
    """Asks with the names that training knows."""
    names = {c.name for group in scene_maker().cut_outs for c in group}
    return Asker(vocabulary=tuple(sorted(names)))


def training_picture(kind: str, number: int, seed: int = 0) -> tuple[Picture, list[Question]]:
    """The picture of a number, and questions about it.

    Args:
        kind: ``CUT_OUTS`` or ``OTHERS``: inspection, gauges and print in turn.
        number: from 0 to ``EVALUATION``.
        seed: of the whole set.
    """
    if not 0 <= number < EVALUATION:
        raise ContractError(f"training pictures have numbers below {EVALUATION}, got {number}")
    rng = np.random.default_rng([seed, number])
    if kind == OTHERS:
        picture = _OTHERS[number % len(_OTHERS)](rng)
        return picture, list(dict.fromkeys(asker().questions(picture, rng)))
    picture = scene_maker().scene(rng)
    asked = asker().questions(picture, rng) + asker().questions(picture, rng)
    return picture, list(dict.fromkeys(asked))
