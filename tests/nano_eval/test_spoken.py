"""Sentences and boxes in answers, where it is known what they are worth."""

from __future__ import annotations

import pytest

from benchmarks.nano_eval.posed import Posed, posed
from benchmarks.nano_eval.spoken import boxed, described, overlap, read_box
from edgevlm.export.nano_data.picture import Question
from edgevlm.runtime.device.evaluation.share import Share
from tests.nano_eval.made import LEFT, RIGHT, picture, thing

BOTH = picture(thing("zebra", LEFT), thing("mug", RIGHT))


def question(kind: str, answer: str) -> Posed:
    return posed(BOTH, Question(kind=kind, text="?", answer=answer))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((10, 10, 0, 0), (0, 0, 10, 10), 0.0),
    ],
)
def test_the_overlap_of_boxes(a: tuple[float, ...], b: tuple[float, ...], wanted: float):
    assert overlap(a, b) == pytest.approx(wanted)  # type: ignore[arg-type]
    assert overlap(b, a) == pytest.approx(wanted)  # type: ignore[arg-type]


def test_boxes_are_held_against_the_thing_that_was_asked_for():
    one = question("json", '{"name":"zebra","box":[10,40,30,60]}')
    said = [
        '{"name":"zebra","box":[10,40,30,60]}',
        '{"name": "mug", "box": [70, 40, 90, 60]}',
        '{"name":"zebra","box":[10,40,30]}',
        "a zebra",
    ]
    found = boxed([(one, text) for text in said])
    assert (found.valid, found.named) == (Share(2, 4), Share(1, 4))
    assert found.overlaps == (1.0, 0.0, 0.0, 0.0)
    assert found.found == Share(1, 4)


@pytest.mark.parametrize("said", ["", "[1]", '{"name":1,"box":[1,2,3,4]}', '{"box":[1,2,3,4]}'])
def test_what_is_no_such_object_has_no_box(said: str):
    assert read_box(said) is None


def test_descriptions_name_things_and_invent_others():
    one = question("describe", "A zebra and a mug.")
    found = described(
        [(one, "A white zebra and a dog."), (one, "Two animals on a table."), (one, "A mug.")],
        ["dog", "zebra", "mug"],
    )
    assert found.named == Share(3, 6)  # the zebra; an animal, which the zebra is; the mug
    assert found.invented == Share(1, 3)
