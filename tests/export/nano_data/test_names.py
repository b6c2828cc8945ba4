from __future__ import annotations

import pytest

from edgevlm.export.nano_data import emoji, stamps
from edgevlm.export.nano_data.names import also_called, is_known, known_kinds
from tests.conftest import missing


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("great blue heron", ("heron", "bird", "animal")),
        ("green apple", ("apple", "fruit", "food")),
        ("sedan car", ("car", "automobile", "vehicle")),
        ("bunch of grapes", ("grapes", "fruit")),
        ("zebu", ("cow", "ox", "animal")),
        ("two wild boars", ("wild boar", "pig", "animal")),
        ("soccer ball", ("football", "ball")),
        ("headstone", ("gravestone", "tombstone")),
    ],
)
def test_what_a_person_would_accept(name: str, others: tuple[str, ...]):
    found = also_called(name)
    assert set(others) <= set(found)
    assert name not in found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("hot dog", "dog"), ("hot dog", "animal"), ("sea lion", "lion"), ("traffic light", "bird"),
        ("computer mouse", "animal"), ("cricket bat", "animal"), ("rubber duck", "animal"),
        ("teddy bear", "animal"), ("hot air balloon", "toy"), ("carved pumpkin", "animal"),
    ],
)  # fmt: skip
def test_a_word_of_a_name_is_not_always_what_it_is(name: str, wrong: str):
    assert wrong not in also_called(name)


def test_the_closest_name_comes_first():
    assert also_called("great blue heron")[0] == "heron"
    assert also_called("great blue heron")[-1] == "animal"
    assert also_called("thingamajig") == ()


def test_what_is_known_by_name():
    known = known_kinds(["great blue heron", "kite (bird of prey)", "coffee mug"])
    assert is_known("heron", known)
    assert is_known("grey heron", known)
    assert is_known("kite", known)
    assert is_known("mug", known)
    assert not is_known("owl", known)  # a bird as well, but that is no name of it
    assert not is_known("bird", known)


def test_every_animal_is_called_one():
    if not (emoji.FONT.is_file() and stamps.FOLDER.is_dir()):
        missing(f"{emoji.PACKAGE} or {stamps.PACKAGE} is not installed")
    things = (*stamps.training_stamps(), *emoji.pictographs())
    animals = {thing.name for thing in things if thing.kind == "animals"}
    assert len(animals) > 150
    assert {name for name in animals if "animal" not in also_called(name)} == {"edward bear"}
    others = {thing.name for thing in things if thing.kind in ("vehicles", "clothes", "household")}
    assert {name for name in others if "animal" in also_called(name)} == set()
