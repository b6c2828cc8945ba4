"""What nano is asked: as many of every kind, in pairs, and never of what it was taught."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from benchmarks.nano_eval.pairs import paired
from benchmarks.nano_eval.posed import EACH, chosen, posed
from benchmarks.nano_eval.real import COLOURS, PRESENT, UNTOLD, photographs
from benchmarks.nano_eval.sets import (
    FIRST,
    THINGS,
    compositions,
    held_out,
    made_sets,
    pictures,
    rendered_set,
    taught,
)
from benchmarks.photographs import OPENCV, PHOTOGRAPHS
from edgevlm.errors import ExportError
from edgevlm.export.nano_data.emoji import FONT
from edgevlm.export.nano_data.emoji import PACKAGE as FONT_PACKAGE
from edgevlm.export.nano_data.picture import Question
from edgevlm.export.nano_data.scenes import BACKGROUNDS, BACKGROUNDS_PACKAGE
from edgevlm.export.nano_data.stamps import FOLDER, PACKAGE
from edgevlm.runtime.device.evaluation.scores import pairs
from tests.conftest import missing
from tests.nano_eval.made import LEFT, RIGHT, picture, thing


def asked(kind: str, answer: str, text: str = "?") -> Question:
    return Question(kind=kind, text=text, answer=answer)  # type: ignore[arg-type]


def test_the_kinds_that_are_rare_so_far_are_taken_first():
    many = [asked("count", "1"), asked("count", "2"), asked("presence", "yes")]
    rare = [*many, asked("text", "stop")]
    found = chosen([(picture(), many)] * 3 + [(picture(), rare)] * 30, 4)
    assert Counter(p.example.kind for p in found) == {"count": 4, "presence": 4, "text": 4}
    assert [p.example.kind for p in found[:2]] == ["count", "presence"]


def test_of_one_picture_not_everything_is_asked_and_some_kinds_never():
    kinds = ("presence", "count", "colour", "where", "name")
    found = chosen([(picture(), [asked(kind, "x") for kind in kinds])], 9)
    assert len(found) == EACH
    found = chosen([(picture(), [asked(kind, "x") for kind in kinds])], 9, ("name",))
    assert [p.example.kind for p in found] == ["name"]


def test_yes_or_no_is_scored_apart_from_other_answers():
    kinds = [posed(picture(), asked(kind, answer)).example.kind for kind, answer in (
        ("state", "no"), ("state", "scratched"), ("presence", "yes"),
    )]  # fmt: skip
    assert kinds == ["state, yes or no", "state", "presence"]


def test_pairs_are_the_same_words_with_two_answers():
    scenes = [
        picture(thing("zebra", LEFT, "white")),
        picture(thing("zebra", RIGHT, "black"), thing("zebra", LEFT, "white")),
        picture(thing("zebra", RIGHT, "grey")),
        picture(thing("mug", LEFT, "red")),
    ]
    found = [one.example for one in paired(scenes, ["zebra", "mug"], 9)]
    assert all(a.question == b.question for a, b in zip(found[::2], found[1::2], strict=True))
    assert len(pairs(found)) == len(found) // 2
    by_kind = Counter(example.kind for example in found)
    # A zebra is in three pictures of four, a mug in one; one zebra or two; two colours, two sides.
    assert by_kind == {
        "presence, in pairs": 4, "count, in pairs": 2, "colour, in pairs": 2, "where, in pairs": 2,
    }  # fmt: skip
    sides = {e.answers for e in found if e.kind.startswith("where")}
    assert sides == {("left", "on the left"), ("right", "on the right")}
    assert len(paired(scenes, ["zebra", "mug"], 1)) == 8


def test_what_may_be_called_so_is_no_such_thing_and_not_its_absence():
    hen = picture(thing("hen", LEFT))
    nothing = picture(thing("mug", LEFT))
    found = paired([hen, nothing, nothing], ["bird"], 9)
    assert found == []


def test_evaluation_begins_where_training_ends():
    numbers = []

    def make(rng: np.random.Generator):
        numbers.append(rng.integers(1 << 60))
        return picture()

    list(islice(pictures(make, 5), 2))
    wanted = [np.random.default_rng([5, FIRST + n]).integers(1 << 60) for n in range(2)]
    assert numbers == wanted
    assert FIRST == 1_000_000


def test_drawn_sets_give_every_kind_as_often():
    for one in made_sets(6):
        kinds = Counter(p.example.kind for p in one.questions)
        assert set(kinds.values()) <= {2, 3}, (one.name, kinds)  # a rare kind may stay below
        assert max(kinds.values()) == 3
        assert one.publishable


def test_rendered_tables_are_asked_what_scenes_of_things_are():
    if not FOLDER.is_dir():
        missing(f"Debian's package {PACKAGE} is not installed")
    try:
        one = rendered_set(16)
    except ExportError as exc:
        missing(str(exc))
    kinds = Counter(p.question.kind for p in one.questions)
    assert set(kinds) == set(THINGS)
    assert {p.picture.family for p in one.questions} == {"renders"}


@pytest.mark.parametrize("known", [True, False])
def test_compositions_show_nothing_but_held_out_stamps(known: bool):
    for place, package in (
        (FOLDER, PACKAGE), (FONT, FONT_PACKAGE), (BACKGROUNDS, BACKGROUNDS_PACKAGE)
    ):  # fmt: skip
        if not place.exists():
            missing(f"Debian's package {package} is not installed")
    stamps = held_out(known)
    assert all(stamp.held_out for stamp in stamps)
    names = {stamp.name for stamp in stamps}
    for one in islice(pictures(compositions(known).scene, 0), 5):
        assert {thing.name for thing in one.things} <= names
    assert ("zebra" in names) is known
    assert ("zebra" in taught()) is True


def test_photographs_are_asked_what_is_there_and_what_is_not():
    files = {p.file for p in PHOTOGRAPHS}
    assert {file for shows, _, lacks in PRESENT for file in (shows, lacks)} <= files
    assert {row[0] for row in (*COLOURS, *UNTOLD)} <= files
    assert all(shows != lacks for shows, _, lacks in PRESENT)
    if not OPENCV.is_dir():
        missing("Debian's package opencv-doc is not installed")
    asked = photographs()
    there = [example for example in asked if example.kind == "presence"]
    assert len(pairs(there)) == len(PRESENT) == len(there) // 2
