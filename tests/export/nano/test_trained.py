"""nano as it was trained: what its prompt says of a picture, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgevlm
from edgevlm.errors import CheckpointError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano.recipe import gather
from edgevlm.export.nano.scene_part import WORDS, read_words
from edgevlm.frame import UInt8
from edgevlm.runtime.model.vlm import Vlm
from tests.exported import nano_bundle

WEIGHTS = Path(__file__).parents[3] / "export/nano/trained"
RED, YELLOW = (200, 30, 30), (240, 210, 30)


@pytest.fixture(scope="module")
def model() -> Iterator[Vlm]:
    """Rounded to nearest: calibration takes a minute."""
    bundle = nano_bundle("trained", ExportOptions(calibrate=False, weights=WEIGHTS))
    with edgevlm.load(bundle.root) as loaded:
        yield loaded


def discs(*places: tuple[int, int, int, tuple[int, int, int]]) -> UInt8:
    """Discs at x and y with a radius, in their colours, on grey."""
    picture = np.full((224, 224, 3), 150, np.uint8)
    y, x = np.mgrid[:224, :224]
    for cx, cy, radius, colour in places:
        picture[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = colour
    return picture


def test_things_are_counted(model: Vlm):
    one, two = discs((112, 112, 50, RED)), discs((55, 112, 35, RED), (170, 112, 35, YELLOW))
    for picture, count in ((one, "1"), (two, "2")):
        assert model.ask(picture, "How many things are there?").text == count


def test_what_no_picture_tells_is_not_made_up(model: Vlm):
    assert model.ask(discs((112, 112, 50, RED)), "What time is it?").text == "I cannot tell"


def test_the_question_about_a_picture_is_answered_by_the_picture(model: Vlm):
    asked = "How many things can you see?"
    three = discs((45, 60, 30, RED), (175, 60, 30, RED), (110, 165, 32, YELLOW))
    assert model.ask(three, asked).text != model.ask(discs((112, 112, 60, RED)), asked).text


def test_the_weights_are_part_of_the_package():
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 40e6


def test_words_that_are_no_words_are_refused(tmp_path: Path):
    (tmp_path / WORDS).write_text("[]", "utf-8")
    with pytest.raises(CheckpointError, match=WORDS):
        read_words(tmp_path)


def test_a_word_for_what_is_no_name_is_refused(tmp_path: Path):
    word = '{"word": "bird", "forms": ["birds"], "kinds": ["magpie"]}'
    (tmp_path / WORDS).write_text(f'{{"names": ["fox"], "words": [{word}]}}', "utf-8")
    with pytest.raises(CheckpointError, match="magpie"):
        read_words(tmp_path)


def test_weights_without_words_are_refused(tmp_path: Path):
    for name in ("heads.safetensors", "lora.safetensors"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    with pytest.raises(CheckpointError, match=WORDS):
        gather(ExportOptions(weights=tmp_path))
