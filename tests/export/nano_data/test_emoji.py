from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import ExportError
from edgevlm.export.nano_data.composition import Placement, compose
from edgevlm.export.nano_data.emoji import FONT, PACKAGE, Pictograph, pictographs
from tests.conftest import missing


@pytest.fixture(scope="module")
def font() -> Path:
    if not FONT.is_file():
        missing(f"{PACKAGE} is not installed")
    return FONT


@pytest.fixture(scope="module")
def drawn(font: Path) -> tuple[Pictograph, ...]:
    return pictographs(font)


def test_every_pictograph_shows_something_of_its_own(drawn: tuple[Pictograph, ...]):
    pixels = [one.rgba() for one in drawn]
    assert all(max(p.shape) >= 60 and (p[..., 3] > 127).mean() > 0.05 for p in pixels)
    assert len({p.tobytes() for p in pixels}) == len(drawn)


def test_names_are_those_a_person_says(drawn: tuple[Pictograph, ...]):
    names = {one.name for one in drawn}
    assert len(names) >= 250
    assert {"dog", "pig", "bear", "zebra", "car", "umbrella", "trumpet"} <= names
    said = [name for name in names if name.endswith((" face", " symbol", " sign"))]
    assert said == []
    (pig, pig_face) = [one for one in drawn if one.name == "pig"]
    assert {pig.character, pig_face.character} == {"\N{PIG}", "\N{PIG FACE}"}
    assert pig.kind == "animals"


def test_a_pictograph_is_placed_like_a_stamp(drawn: tuple[Pictograph, ...]):
    (apple,) = [one for one in drawn if one.character == "\N{RED APPLE}"]
    (thing,) = compose(
        np.full((120, 160, 3), 128, np.uint8), [Placement(stamp=apple, centre_xy=(80, 60), side=60)]
    ).things
    assert (thing.name, thing.colour, thing.seen) == ("apple", "red", 1.0)
    x0, y0, x1, y1 = thing.box_xyxy
    assert max(x1 - x0, y1 - y0) == pytest.approx(60, abs=2)


def test_a_font_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ExportError, match="apt-get install fonts-noto-color-emoji"):
        pictographs(tmp_path / "none.ttf")
