"""Known things by name in a question, and a closer look at a part of the picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgevlm
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.config import make_config
from edgevlm.errors import BankError, ConfigError, ContractError
from edgevlm.event import AnswerEvent
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.knowing import known_text, look_first
from edgevlm.runtime.perception.teach_thing import Shot, teach_thing
from edgevlm.runtime.perception.things import Thing
from tests.runtime.perception.stickers import scene, shots

QUESTION = "Whose is it?"
HERE, (BOX, _) = scene([("cat", 300, 30, 140), ("rocket", 40, 180, 140)])
WITHOUT, _ = scene([("rocket", 60, 190, 150)], seed=1)


@pytest.fixture(scope="module")
def model(nano: Bundle) -> Iterator[Vlm]:
    """The built-in model."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def cat(model: Vlm) -> Thing:
    """Called Tom."""
    return teach_thing(model, "Tom", [Shot(image=i, box_xyxy=b) for i, b in shots("cat", 2)])


def test_what_is_recognised_stands_before_the_question(model: Vlm, cat: Thing):
    look = look_first(model, [HERE], QUESTION, [cat])
    assert look.question == f"Known things in the picture: Tom (top right). {QUESTION}"
    assert [one.name for one in look.found[0]] == ["Tom"]
    assert look.zoomed is None
    np.testing.assert_array_equal(look.images[0], HERE)
    assert known_text(look.found[0], (360, 480)) + QUESTION == look.question


def test_what_is_not_known_gets_no_name_and_several_pictures_are_numbered(model: Vlm, cat: Thing):
    look = look_first(model, [WITHOUT, HERE], QUESTION, [cat])
    assert look.question == f"Known things in picture 2: Tom (top right). {QUESTION}"
    assert look.found[0] == ()


def test_a_closer_look_at_a_thing_or_at_a_box(model: Vlm, cat: Thing):
    look = look_first(model, [HERE], QUESTION, [cat], zoom="Tom")
    assert look.zoomed is not None
    left, top, right, bottom = look.zoomed
    assert (left, top) < (BOX[0], BOX[1])
    assert (right, bottom) > (BOX[2], BOX[3])
    assert right - left < 320
    np.testing.assert_array_equal(look.images[0], HERE[top:bottom, left:right])
    assert look.question.startswith("Known things in the picture: Tom (in the centre). ")
    part = look_first(model, [HERE], QUESTION, zoom=(10, 20, 110, 90))
    np.testing.assert_array_equal(part.images[0], HERE[20:90, 10:110])
    assert part.question == QUESTION
    away = look_first(model, [HERE], QUESTION, [cat], zoom=(10, 150, 200, 340))
    assert away.question == QUESTION  # Tom is not in this part


def test_closer_looks_that_cannot_be_taken(model: Vlm, cat: Thing):
    for images, things, zoom, said in (
        ([HERE], [cat], "Jerry", "neither a box nor a known thing; known: Tom"),
        ([HERE], [], "Tom", "and none is known"),
        ([WITHOUT], [cat], "Tom", "'Tom' is not in the picture: the likest place has"),
        ([HERE, HERE], [cat], "Tom", "at one picture, got 2"),
        ([], [cat], "Tom", "at one picture, got 0"),
        ([HERE], [], (0, 0, 481, 20), "does not lie in its picture of 480x360"),
        ([HERE], [], (0, 0, 4, 20), "wanted at least 8"),
    ):
        with pytest.raises(ContractError, match=said):
            look_first(model, images, QUESTION, things, zoom=zoom)


def test_the_command_asks_with_names(
    tmp_path: Path, nano: Bundle, cat: Thing, capsys: pytest.CaptureFixture[str]
):
    cat.save(tmp_path / "tom.npz")
    Image.fromarray(HERE).save(tmp_path / "here.png")
    words = ["ask", str(nano.root), str(tmp_path / "here.png"), QUESTION, "--max-tokens", "1"]
    known = ["--known", str(tmp_path / "tom.npz")]
    assert run_command([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "known" not in plain
    assert run_command([*words, *known, "--zoom", "Tom", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["thing"] for one in said["known"][0]] == ["Tom"]
    assert len(said["zoomed"]) == 4
    assert said["tokens"]["prompt"] > plain["tokens"]["prompt"]  # the names
    assert run_command([*words, "--zoom", "10,20,100,70"]) == 0
    assert run_command([*words, "--zoom", "a,b,c,d"]) == 2
    assert run_command([*words, "--small"]) == 2
    assert run_command([*words, "--known", str(tmp_path / "no.npz")]) == 1


def test_a_stream_is_told_what_it_knows(tmp_path: Path, nano: Bundle, model: Vlm, cat: Thing):
    cat.save(tmp_path / "tom.npz")
    frames = tmp_path / "frames"
    frames.mkdir()
    for n, picture in enumerate((HERE, WITHOUT)):
        Image.fromarray(picture).save(frames / f"{n}.png")
    raw = {
        "bundle": str(nano.root),
        "source": {"uri": str(frames)},
        "ask": QUESTION,
        "known": [str(tmp_path)],
        "generation": {"max_tokens": 4},
        "engine": {"threads": 2, "spin": False},
    }
    here, gone, _ = list(edgevlm.run(make_config(raw)))
    assert isinstance(here, AnswerEvent)
    assert isinstance(gone, AnswerEvent)
    assert (here.kind, here.question) == ("answer", QUESTION)
    assert (len(here.boxes_xyxy), gone.boxes_xyxy) == (1, ())
    assert here.tokens.prompt > gone.tokens.prompt
    told = look_first(model, [HERE], QUESTION, [cat]).question
    assert here.text == model.ask(HERE, told, max_tokens=4).text
    assert gone.text == model.ask(WITHOUT, QUESTION, max_tokens=4).text
    several = {**raw, "ask": [QUESTION, "What is it?"]}
    first, second, *_ = list(edgevlm.run(make_config(several)))
    assert (first.text, second.question) == (here.text, "What is it?")
    with pytest.raises(BankError, match="there is no bank"):
        next(edgevlm.run(make_config({**raw, "known": [str(tmp_path / "no.npz")]})))
    with pytest.raises(ConfigError, match="window does not go with known"):
        make_config({**raw, "window": {"seconds": 8}})
