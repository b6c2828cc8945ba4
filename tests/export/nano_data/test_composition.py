from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.colour import colour_name
from edgevlm.errors import ContractError
from edgevlm.export.nano_data.colours import turn_hue
from edgevlm.export.nano_data.composition import Placement, compose
from edgevlm.export.nano_data.layout import free_place
from tests.export.nano_data.drawn import square

GREY = np.full((120, 160, 3), 128, np.uint8)
RED, GREEN = (220, 20, 20), (20, 200, 40)


def test_a_thing_is_where_it_was_put(tmp_path: Path):
    stamp = square(tmp_path, "brick", RED)
    made = compose(GREY, [Placement(stamp=stamp, centre_xy=(60, 50), side=20)])
    (thing,) = made.things
    assert thing.box_xyxy == (50, 40, 70, 60)
    assert thing.mask[40:60, 50:70].all()
    assert thing.mask.sum() == 400
    assert thing.seen == 1.0
    assert (thing.name, thing.colour) == ("brick", "red")
    # Feathered over a pixel or so; untouched beyond the box, the stamp's own colour inside.
    assert (made.image_rgb[43:57, 53:67] == RED).all()
    outside = np.ones((120, 160), bool)
    outside[40:60, 50:70] = False
    assert (made.image_rgb[outside] == 128).all()
    assert (GREY == 128).all()


def test_what_stands_behind_loses_what_it_hides(tmp_path: Path):
    red, green = square(tmp_path, "brick", RED), square(tmp_path, "leaf", GREEN)
    back = Placement(stamp=red, centre_xy=(60, 50), side=20)
    front = Placement(stamp=green, centre_xy=(70, 50), side=20)
    behind, before = compose(GREY, [back, front]).things
    assert behind.box_xyxy == (50, 40, 60, 60)
    assert behind.seen == pytest.approx(0.5)
    assert before.box_xyxy == (60, 40, 80, 60)
    assert not (behind.mask & before.mask).any()
    (only,) = compose(GREY, [back, Placement(stamp=green, centre_xy=(60, 50), side=30)]).things
    assert only.name == "leaf"


def test_what_reaches_outside_is_cut_off(tmp_path: Path):
    stamp = square(tmp_path, "brick", RED)
    (corner,) = compose(GREY, [Placement(stamp=stamp, centre_xy=(0, 0), side=20)]).things
    assert corner.box_xyxy == (0, 0, 10, 10)
    assert corner.seen == pytest.approx(0.25)
    assert compose(GREY, [Placement(stamp=stamp, centre_xy=(-50, 20), side=20)]).things == ()


def test_a_turned_thing_grows_in_its_box(tmp_path: Path):
    stamp = square(tmp_path, "brick", RED)
    (thing,) = compose(
        GREY, [Placement(stamp=stamp, centre_xy=(80, 60), side=40, degrees=45)]
    ).things
    x0, y0, x1, y1 = thing.box_xyxy
    assert x1 - x0 == pytest.approx(40 * 2**0.5, abs=3)
    assert y1 - y0 == pytest.approx(40 * 2**0.5, abs=3)
    assert thing.mask.sum() == pytest.approx(1600, rel=0.06)


@pytest.mark.parametrize(("side", "opacity"), [(1, 1.0), (20, 1.5), (20, -0.1)])
def test_impossible_placements_are_refused(tmp_path: Path, side: int, opacity: float):
    with pytest.raises(ContractError, match="side of at least 2"):
        Placement(
            stamp=square(tmp_path, "brick", RED), centre_xy=(0, 0), side=side, opacity=opacity
        )


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((230, 30, 30), "red"), ((240, 140, 20), "orange"), ((120, 70, 25), "brown"),
        ((240, 220, 30), "yellow"), ((30, 160, 50), "green"), ((30, 60, 200), "blue"),
        ((140, 50, 220), "purple"), ((240, 90, 180), "pink"), ((10, 10, 12), "black"),
        ((240, 240, 240), "white"), ((130, 130, 132), "grey"),
    ],
)  # fmt: skip
def test_colours_have_their_names(rgb: tuple[int, int, int], name: str):
    picture = np.full((8, 8, 3), rgb, np.uint8)
    assert colour_name(picture, np.ones((8, 8), bool)) == name


def test_a_thing_of_two_colours_has_none():
    picture = np.full((8, 8, 3), RED, np.uint8)
    picture[:, 4:] = GREEN
    assert colour_name(picture, np.ones((8, 8), bool)) is None
    assert colour_name(picture, np.zeros((8, 8), bool)) is None


def test_a_hue_turned_by_a_third_goes_from_red_to_green(tmp_path: Path):
    turned = turn_hue(square(tmp_path, "brick", (220, 20, 20)).rgba(), 120)
    np.testing.assert_allclose(turned[5, 5], (20, 220, 20, 255), atol=6)
    grey = np.full((4, 4, 4), 90, np.uint8)
    assert (turn_hue(grey, 200) == grey).all()


def test_a_free_place_touches_nobody(tmp_path: Path):
    stamp = square(tmp_path, "brick", RED)
    rng = np.random.default_rng(3)
    new = Placement(stamp=stamp, centre_xy=(0, 0), side=30)
    placed: list[Placement] = []
    while (found := free_place(new, placed, (160, 120), rng)) is not None:
        placed.append(found)
    assert len(placed) >= 4
    made = compose(GREY, placed)
    assert [thing.seen for thing in made.things] == [1.0] * len(placed)
    assert (
        free_place(Placement(stamp=stamp, centre_xy=(0, 0), side=130), (), (160, 120), rng) is None
    )
