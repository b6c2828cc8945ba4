"""What things are called: as special as they are clear, and what a question asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.bundle.scene_words import SceneWord, SceneWords
from edgevlm.runtime.model.scene_names import SceneNames
from edgevlm.tensors import Float32

NAMES = ("banana", "magpie", "seagull", "whale")
WORDS = SceneWords(
    names=NAMES,
    words=(
        *(SceneWord(word=n, forms=(n, f"{n}s"), kinds=(n,)) for n in NAMES),
        SceneWord(word="bird", forms=("bird", "birds"), kinds=("magpie", "seagull")),
        SceneWord(word="blue whale", forms=("blue whale",), kinds=()),
    ),
)
RULE = ScenePrompt(file="words.json", output="cell_chance")


def embed(texts: Sequence[str]) -> Float32:
    """One direction a text."""
    known = [*NAMES, "bird", "blue whale"]
    return np.eye(8, dtype=np.float32)[[known.index(t) for t in texts]]


@pytest.fixture
def names() -> SceneNames:
    return SceneNames(WORDS, RULE, embed, 10.0)


def look(**shares: float) -> Float32:
    mixed = sum(share * embed([name])[0] for name, share in shares.items())
    return np.asarray(mixed / np.linalg.norm(mixed), np.float32)


def test_a_clear_thing_has_its_own_name(names: SceneNames):
    assert names.names(np.stack([look(banana=1)]), "") == ["banana"]


def test_a_thing_between_two_birds_is_a_bird(names: SceneNames):
    assert names.names(np.stack([look(magpie=1, seagull=1)]), "") == ["bird"]


def test_a_thing_that_may_be_anything_has_no_name(names: SceneNames):
    even = look(banana=1, magpie=1, whale=1)
    assert names.names(even[None], "") == [None]


def test_what_a_question_names_is_looked_for(names: SceneNames):
    two = np.stack([look(magpie=1, seagull=0.9), look(banana=1)])
    assert names.names(two, "Where is the magpie?") == ["magpie", "banana"]


def test_two_asked_things_are_given_apart_the_best_pair_first(names: SceneNames):
    two = np.stack([look(seagull=1, magpie=0.8), look(magpie=0.5, whale=0.5)])
    asked = "Is the magpie above or below the seagull?"
    assert names.names(two, asked) == ["seagull", "magpie"]


def test_things_that_look_alike_are_called_alike(names: SceneNames):
    three = np.stack([look(magpie=1), look(magpie=1, whale=0.3), look(banana=1)])
    assert names.names(three, "How many magpies are there?") == ["magpie", "magpie", "banana"]


def test_what_is_far_from_all_things_is_not_called_so():
    strict = SceneNames(WORDS, RULE.model_copy(update={"asked": -1.0}), embed, 10.0)
    assert strict.names(np.stack([look(banana=1)]), "Is there a whale?") == ["banana"]


def test_the_longest_word_of_a_question_counts(names: SceneNames):
    words = [w.word for w in WORDS.words]
    assert [words[n] for n in names.asked("Is there a BLUE whale?")] == ["blue whale"]
    assert names.asked("What is this?") == []


def test_names_from_elsewhere_stand_where_no_question_names_the_thing(names: SceneNames):
    even = look(banana=1, magpie=1, seagull=1, whale=1)
    assert names.names(even[None], "", {0: "espresso"}) == ["espresso"]


def test_no_things_have_no_names(names: SceneNames):
    assert names.names(np.zeros((0, 8), np.float32), "Is there a whale?") == []
