from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edgevlm.errors import ContractError, ExportError
from edgevlm.export.nano_data.picture import Picture
from edgevlm.export.nano_data.renders import GL_PACKAGES, TableTops
from edgevlm.export.nano_data.table_layout import KINDS, layout
from tests.conftest import missing


@pytest.fixture(scope="module")
def tops() -> Iterator[TableTops]:
    try:
        tops = TableTops(side=224, seed=1)
    except ExportError as error:
        missing(f"of Debian's packages {GL_PACKAGES} one is not installed: {error}")
    with tops:
        yield tops


@pytest.fixture(scope="module")
def pictures(tops: TableTops) -> list[Picture]:
    rng = np.random.default_rng(2)
    return [tops(rng) for _ in range(16)]


def test_the_same_seed_gives_the_same_picture(tops: TableTops):
    one, other = (tops(np.random.default_rng(3)) for _ in range(2))
    assert one.scene == other.scene
    assert (one.image_rgb == other.image_rgb).all()
    assert [t.box_xyxy for t in one.things] == [t.box_xyxy for t in other.things]


def test_every_thing_is_whole_and_in_the_picture(pictures: list[Picture]):
    for picture in pictures:
        assert picture.image_rgb.shape == (224, 224, 3)
        assert len(picture.things) == len(picture.scene.split(", "))
        for thing in picture.things:
            x0, y0, x1, y1 = thing.box_xyxy
            assert 0 < x0 < x1 < 224
            assert 0 < y0 < y1 < 224
            assert thing.mask[y0:y1, x0:x1].sum() == thing.mask.sum() >= 150
        together = np.sum([t.mask for t in picture.things], axis=0)
        assert together.max() == 1
        islands = cv2.connectedComponents(together.astype(np.uint8))[0] - 1
        assert islands <= len(picture.things)


def test_masks_lie_where_the_picture_has_edges(pictures: list[Picture]):
    """Along its outline a thing differs from what is around it, by more than the table does."""
    better = []
    for picture in pictures:
        grey = cv2.GaussianBlur(cv2.cvtColor(picture.image_rgb, cv2.COLOR_RGB2GRAY), (0, 0), 1.2)
        slope = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3))).astype(np.float32)
        for thing in picture.things:
            mask = thing.mask.astype(np.uint8)
            outline = cv2.dilate(mask, np.ones((3, 3))) - cv2.erode(mask, np.ones((3, 3)))
            shifted = np.roll(outline, (11, 11), (0, 1))
            better.append(slope[outline > 0].mean() > slope[shifted > 0].mean())
    assert np.mean(better) > 0.9


def test_a_colour_is_told_only_where_it_is_seen(pictures: list[Picture]):
    told = [t for p in pictures for t in p.things if t.colour is not None]
    assert len(told) > 0.6 * sum(len(p.things) for p in pictures)
    for picture in pictures:
        painted = picture.scene.split(": ")[1].split(", ")
        for thing in picture.things:
            assert thing.colour is None or f"{thing.colour} {thing.name}" in painted
    reds = [t.mask for p in pictures for t in p.things if t.colour == "red"]
    seen = [p.image_rgb for p in pictures for t in p.things if t.colour == "red"]
    for mask, image in zip(reds, seen, strict=True):
        red, green, blue = np.median(image[mask], 0)
        assert red > 1.5 * max(green, blue)


def test_views_of_one_table_show_the_same_things(tops: TableTops):
    views = tops.views(np.random.default_rng(6), 3)
    assert len({view.scene for view in views}) == 1
    assert len({tuple(t.name for t in view.things) for view in views}) == 1
    assert (views[0].image_rgb != views[1].image_rgb).mean() > 0.5


def test_solids_do_not_touch_and_all_kinds_come():
    rng, kinds, counts = np.random.default_rng(1), set(), set()
    for _ in range(200):
        solids = layout(rng)
        counts.add(len(solids))
        for at, one in enumerate(solids):
            kinds.add(one.kind)
            assert np.linalg.norm(one.quaternion) == pytest.approx(1)
            for other in solids[:at]:
                apart = np.hypot(*np.subtract(one.centre_m[:2], other.centre_m[:2]))
                assert apart > one.radius_m + other.radius_m
    assert kinds == set(KINDS)
    assert counts == {1, 2, 3, 4, 5}


def test_small_pictures_are_refused():
    with pytest.raises(ContractError, match="at least 224 pixels, got 100"):
        TableTops(side=100)


def test_what_is_missing_is_named():
    code = "from edgevlm.export.nano_data.renders import TableTops; TableTops()"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "nonsense"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert "ExportError" in last
    assert f"apt-get install {GL_PACKAGES}" in last
