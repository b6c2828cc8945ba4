"""What nano is asked: pictures that it has never seen, by where they come from.

Pictures are drawn from numbers that start where training ends. Stamps are those that are held out
by the hash of their path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count as counted

import numpy as np

from benchmarks.nano_eval.posed import Posed, chosen
from edgevlm.export.nano_data import emoji
from edgevlm.export.nano_data.displays import display
from edgevlm.export.nano_data.gauges import gauge
from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.names import is_known, known_kinds
from edgevlm.export.nano_data.picture import Picture, Question
from edgevlm.export.nano_data.printed import printed
from edgevlm.export.nano_data.questions import Asker
from edgevlm.export.nano_data.renders import TableTops
from edgevlm.export.nano_data.scenes import SceneMaker, photographs
from edgevlm.export.nano_data.stamps import Stamp, held_out_stamps, training_stamps
from edgevlm.export.nano_data.table_layout import KINDS as SOLIDS
from edgevlm.export.nano_train.sources import EVALUATION

COMPOSED = "compositions"
FIRST = EVALUATION  # number of the first picture; training takes those below
THINGS = ("presence", "count", "colour", "where", "larger", "name")
SCENES = ("presence", "count", "colour", "where", "larger", "name", "in box", "describe", "json",
          "unanswerable")  # fmt: skip
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSet:
    """Questions of one origin.

    Args:
        name: of the set.
        seen: what of it training has seen.
        publishable: whether its pictures may be shown: of our own making, and under no licence
            that a page would have to carry.
        questions: as many of every kind.
    """

    name: str
    seen: str
    publishable: bool
    questions: list[Posed]


@lru_cache(maxsize=1)
def taught() -> frozenset[str]:
    """Names of the things that training shows, with head nouns and synonyms."""
    names = [stamp.name for stamp in training_stamps()]
    return known_kinds(names + [drawn.name for drawn in emoji.pictographs()])


@lru_cache(maxsize=1)
def held_out(known: bool) -> tuple[Stamp, ...]:
    """Held-out stamps of kinds that training shows others of, or of kinds that it never does."""
    return tuple(s for s in held_out_stamps() if is_known(s.name, taught()) == known)


def compositions(known: bool) -> SceneMaker:
    """Scenes of such stamps, before the backgrounds of training."""
    return SceneMaker(cut_outs=(held_out(known),), backgrounds=photographs())


def pictures(make: Callable[[Rng], Picture], family: int) -> Iterator[Picture]:
    """The pictures of a family of scenes, from ``FIRST`` on, without end."""
    for number in counted(FIRST):
        yield make(np.random.default_rng([family, number]))


def asked(
    make: Callable[[Rng], Picture], family: int, vocabulary: Sequence[str]
) -> Iterator[tuple[Picture, list[Question]]]:
    """The same with questions; names of the vocabulary are asked for where they are not."""
    asker = Asker(vocabulary=tuple(vocabulary))
    for number, picture in enumerate(pictures(make, family)):
        yield picture, asker.questions(picture, np.random.default_rng([family, FIRST + number, 1]))


def own_questions(
    make: Callable[[Rng], Picture], family: int
) -> Iterator[tuple[Picture, list[Question]]]:
    """The same with the generator's own questions alone."""
    for picture in pictures(make, family):
        yield picture, list(picture.questions)


def scene_sets(count: int) -> list[EvalSet]:
    """Compositions: of known kinds, of kinds never taught, and of drawn pictographs.

    Args:
        count: questions of every kind; half as many in the last two sets.
    """
    known, new = sorted({s.name for s in held_out(True)}), {s.name for s in held_out(False)}
    drawn = SceneMaker(cut_outs=(emoji.pictographs(),), backgrounds=())
    names = sorted({p.name for p in emoji.pictographs()})
    half = -(-count // 2)
    return [
        EvalSet(
            name=COMPOSED,
            seen="other stamps of these kinds, the backgrounds",
            publishable=False,
            questions=chosen(asked(compositions(True).scene, 0, known), count, SCENES),
        ),
        EvalSet(
            name="kinds never taught",
            seen="the backgrounds",
            publishable=False,
            questions=chosen(
                asked(compositions(False).scene, 1, sorted(new)), half, ("presence", "name")
            ),
        ),
        EvalSet(
            name="pictographs",
            seen="the same drawings in other scenes",
            publishable=True,
            questions=chosen(asked(drawn.scene, 2, names), half, THINGS),
        ),
    ]


def made_sets(count: int) -> list[EvalSet]:
    """Scenes that are drawn, asked what their generators alone can ask.

    Args:
        count: twice as many as questions of every kind.
    """
    half = -(-count // 2)
    return [
        EvalSet(
            name=name,
            seen="the same generator, other numbers",
            publishable=True,
            questions=chosen(own_questions(make, 3 + n), half),
        )
        for n, (name, make) in enumerate(_MADE.items())
    ]


def rendered_set(count: int) -> EvalSet:
    """Table tops, which no lesson shows.

    Args:
        count: four times as many as questions of every kind: they take long to render.

    Raises:
        ExportError: MuJoCo or OpenGL is not installed.
    """
    # Absent solids as often as absent things of other kinds: on a full table no solid is absent.
    names = sorted({stamp.name for stamp in held_out(known=True)})
    vocabulary = [*SOLIDS * (len(names) // len(SOLIDS)), *names]
    with TableTops() as render:
        drawn = asked(render, 10, vocabulary)
        questions = chosen(drawn, -(-count // 4), THINGS)
    return EvalSet(name="renders", seen="nothing", publishable=True, questions=questions)


_MADE: dict[str, Callable[[Rng], Picture]] = {
    "inspection": inspection, "gauges": gauge, "displays": display, "print": printed,
}  # fmt: skip
