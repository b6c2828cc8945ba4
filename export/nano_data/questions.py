"""Questions about what is in a picture, so that no answer can be guessed without looking.

Every question exists in pairs of answers that come equally often: ``yes`` and ``no``, ``left`` and
``right``; counts and colours follow from how scenes are made. What a picture cannot tell is asked
too, and answered with ``CANNOT_TELL``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgevlm.export.nano_data.ask_names import (
    CANNOT_TELL,
    ask_describe,
    ask_name,
    ask_unanswerable,
)
from edgevlm.export.nano_data.ask_places import (
    ask_in_box,
    ask_json,
    ask_larger,
    ask_relation,
    ask_side,
)
from edgevlm.export.nano_data.ask_things import ask_colour, ask_count, ask_presence
from edgevlm.export.nano_data.asked_scene import AskedScene, answers_to
from edgevlm.export.nano_data.picture import Picture, Question, QuestionKind

__all__ = ["CANNOT_TELL", "KINDS", "Asker", "answers_to"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks about pictures of things.

    Args:
        vocabulary: names that could be in a picture, for questions about what is not there.
    """

    vocabulary: Sequence[str]

    def questions(self, picture: Picture, rng: np.random.Generator) -> list[Question]:
        """Every kind of question that the picture allows, in random order, its own among them."""
        found = list(picture.questions)
        if picture.things:
            scene = AskedScene(picture, rng, self.vocabulary)
            for ask in _ASKED:
                asked = ask(scene)
                found += [asked] if asked is not None else []
        return [found[n] for n in rng.permutation(len(found))]


_ASKED: tuple[Callable[[AskedScene], Question | None], ...] = (
    ask_presence, ask_presence, ask_count, ask_count, ask_colour, ask_side, ask_relation,
    ask_larger, ask_name, ask_name, ask_in_box, ask_json, ask_describe, ask_unanswerable,
)  # fmt: skip
KINDS: tuple[QuestionKind, ...] = (
    "presence", "count", "colour", "where", "larger", "name", "in box", "number", "text", "state",
    "describe", "json", "unanswerable",
)  # fmt: skip
