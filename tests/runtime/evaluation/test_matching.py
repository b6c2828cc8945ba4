"""What an answer may look like, and what makes it wrong."""

from __future__ import annotations

import pytest

from edgevlm.runtime.device.evaluation.matching import answered_by, is_refusal, is_right, named_in

COLOURS = ("red", "green", "light blue", "blue")
NAMES = ("cat", "dog", "polar bear", "bear", "glass")


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("Yes.", ("yes",), True),
        ("yes, there is one", ("yes",), True),
        ("No, but yes", ("yes",), False),
        ("There is one, yes", ("yes",), False),
        ("", ("yes",), False),
        ("No.", ("no",), True),
        ("There are two.", ("2",), True),
        ("2 of 3", ("3",), False),
        ("Twelve", ("12", "a dozen"), True),
        ("A dozen!", ("12", "a dozen"), True),
        ("no", ("0", "no"), True),
        ("3.50 bar", ("3.5",), True),
        ("3,5", ("3.5",), True),
        ("-4 degrees", ("-4",), True),
        ("35", ("3.5",), False),
        ("many", ("4",), False),
        ("I can't tell.", ("I cannot tell",), True),
        ("There is no dog.", ("I cannot tell",), True),
        ("It isn\N{RIGHT SINGLE QUOTATION MARK}t shown", ("I cannot tell",), True),
        ("red", ("I cannot tell",), False),
        ("AB 12", ("AB-12",), True),
        ("AB-13", ("AB-12",), False),
    ],
)
def test_yes_numbers_and_refusals(answer: str, accepted: tuple[str, ...], right: bool):
    assert is_right(answer, accepted) is right


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The cat.", ("cat",), True),
        ("two CATS", ("cat",), True),
        ("a caterpillar", ("cat",), False),
        ("a dog or a cat", ("cat",), False),
        ("a cat or a dog", ("cat",), True),
        ("not a dog but a cat", ("cat",), True),
        ("no cat", ("cat",), False),
        ("a polar bear", ("bear",), False),
        ("a bear", ("polar bear",), False),
        ("a bear", ("polar bear", "bear"), True),
        ("two glasses", ("glass",), False),
        ("I cannot tell a cat from a dog", ("cat",), False),
        ("kitten", ("cat", "kitten"), True),
    ],
)
def test_the_first_thing_named_decides(answer: str, accepted: tuple[str, ...], right: bool):
    assert is_right(answer, accepted, NAMES) is right


def test_of_several_names_in_one_place_the_longest_counts():
    assert is_right("light blue", ("light blue",), COLOURS)
    assert not is_right("light blue", ("blue",), COLOURS)
    assert not is_right("red and green", ("green",), COLOURS)


def test_the_rule_follows_the_first_accepted_answer():
    kinds = [answered_by((first,)) for first in ("Yes", "four", "I cannot tell", "left")]
    assert kinds == ["yes-no", "number", "refusal", "words"]
    assert not is_refusal("There is a dog")


def test_everything_that_an_answer_names_is_found_in_its_order():
    said = "Two dogs, a polar bear and no cat, on glass"
    assert named_in(said, NAMES) == ["dog", "polar bear", "glass"]
    assert named_in("nothing of it", NAMES) == []
