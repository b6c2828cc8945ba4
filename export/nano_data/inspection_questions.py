"""What is asked about a plate under inspection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgevlm.export.nano_data.parts import KINDS
from edgevlm.export.nano_data.picture import Question, SeenThing

State = Literal["good", "missing", "colour", "scratched", "misaligned"]
FAULTS: tuple[State, ...] = ("missing", "colour", "scratched", "misaligned")
STATES: tuple[State, ...] = ("good", *FAULTS)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is true of a plate.

    Args:
        kind: of its parts.
        colour: that they have.
        odd: that one of them has where ``state`` is ``colour``.
        state: of one of them, or ``good``.
        place: where that one is.
        places: how many there are, empty ones too.
    """

    kind: str
    colour: str
    odd: str
    state: State
    place: str
    places: int


_ASKED: dict[State, tuple[str, ...]] = {
    "good": ("Is everything in order?", "Are all the {many} in order?", "Is this plate good?"),
    "missing": ("Is a part missing?", "Is a {one} missing?", "Is one place empty?"),
    "colour": ("Does one {one} have a wrong colour?", "Is one of the {many} of another colour?"),
    "scratched": ("Is there a scratch?", "Is a {one} scratched?", "Is one of the parts scratched?"),
    "misaligned": ("Is a {one} misaligned?", "Is one of the parts out of place?"),
}
_WRONG: dict[State, tuple[str, ...]] = {
    "good": ("nothing", "nothing is wrong", "it is good", "no fault"),
    "missing": ("a {one} is missing", "a part is missing", "missing", "the {at} {one} is missing",
                "one {one} is missing", "a missing {one}"),
    "colour": ("a {one} has the wrong colour", "wrong colour", "one {one} is {odd}",
               "the {at} {one} is {odd}", "the {at} {one} has the wrong colour"),
    "scratched": ("a {one} is scratched", "a scratch", "scratched", "a scratched {one}",
                  "the {at} {one} is scratched", "there is a scratch"),
    "misaligned": ("a {one} is misaligned", "misaligned", "a {one} is out of place",
                   "the {at} {one} is misaligned", "a misaligned {one}"),
}  # fmt: skip
_WHICH: dict[State, str] = {
    "missing": "Which {one} is missing?",
    "colour": "Which {one} has another colour?",
    "scratched": "Which {one} is scratched?",
    "misaligned": "Which {one} is out of place?",
}
_UNKNOWABLE = (
    "What is the serial number of this plate?", "Who made these {many}?", "When was this made?",
    "How heavy is the {one}?", "What is on the back of the plate?", "What does a {one} cost?",
    "What is the name of the inspector?", "How old are the {many}?",
)  # fmt: skip


def questions_about(
    told: Inspected, things: Sequence[SeenThing], rng: np.random.Generator
) -> list[Question]:
    """Questions about one plate; over many, ``yes`` is as frequent as ``no`` to each.

    Args:
        told: what is true.
        things: the parts that can be seen.
        rng: chooses words and questions.
    """
    kind = KINDS[told.kind]

    def said(text: str) -> str:
        text = text.format(one=told.kind, many=kind.plural, at=told.place, odd=told.odd)
        return text.replace("a LED", "an LED")

    def one_of(texts: Sequence[str]) -> str:
        return said(texts[int(rng.integers(len(texts)))])

    found = [Question(kind="state", text=one_of(_ASKED[told.state]), answer="yes")]
    # As many "no" as "yes" to each of them: one other question for every true one.
    others = [state for state in _ASKED if state != told.state]
    other = others[int(rng.integers(len(others)))]
    found.append(Question(kind="state", text=one_of(_ASKED[other]), answer="no"))
    answer, *accepted = map(said, _WRONG[told.state])
    found.append(
        Question(kind="state", text="What is wrong here?", answer=answer, accepted=tuple(accepted))
    )
    if told.state != "good":
        text = said(_WHICH[told.state])
        place = told.place
        accepted = [place, said("the {at} {one}"), f"at the {place}", f"in the {place}"]
        found.append(Question(kind="state", text=text, answer=f"the {place} one",
                              accepted=tuple(accepted)))  # fmt: skip
    else:
        text = said(_WHICH[FAULTS[int(rng.integers(len(FAULTS)))]])
        found.append(Question(kind="state", text=text, answer="none",
                              accepted=("none of them", "no one", "nothing")))  # fmt: skip
    found.append(
        Question(kind="count", text=said("How many {many} are there?"), answer=str(len(things)))
    )
    empty = told.places - len(things)
    if rng.random() < (0.6 if empty else 0.2):
        found.append(
            Question(kind="count", text="How many places are empty?", answer=str(empty),
                     accepted=() if empty else ("none", "zero"))
        )  # fmt: skip
    found += _colour_questions(told, things, said)
    found.append(Question(kind="unanswerable", text=one_of(_UNKNOWABLE), answer="I cannot tell"))
    return found


def _colour_questions(
    told: Inspected, things: Sequence[SeenThing], said: Callable[[str], str]
) -> list[Question]:
    """Only where the pixels have the colour that the paint is called by."""
    seen = {thing.colour for thing in things}
    if not seen <= {told.colour, told.odd}:
        return []
    if told.state == "colour":
        text, answer = said("What colour is the odd {one}?"), told.odd
    else:
        text, answer = said("What colour are the {many}?"), told.colour
    return [Question(kind="colour", text=text, answer=answer)]
