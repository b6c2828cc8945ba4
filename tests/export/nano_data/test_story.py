from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import ContractError
from edgevlm.export.nano_data.story import Telling, seen_difference
from edgevlm.export.nano_data.table_story import KINDS, Table, table_story
from edgevlm.frame import UInt8
from tests.export.nano_data.drawn import square


def paint(at: int) -> UInt8:
    """A white square of 10 pixels whose left edge is at ``at``."""
    picture = np.zeros((40, 200, 3), np.uint8)
    picture[10:20, at : at + 10] = 255
    return picture


def telling(first: int = 0) -> Telling[int]:
    return Telling(paint, first, 10, np.random.default_rng(1), (1.0, 1.0), quiet_s=2.0)


def test_a_change_is_labelled_to_the_frame_and_the_pixel():
    told = telling()
    assert told.change("move", "square", 50)
    assert told.change("move", "square", 100, way=[60, 80])
    story = told.end()
    first, second = story.changes
    assert (first.begun, first.frame, first.until) == (20, 20, 30)
    assert (second.begun, second.shown, second.frame, second.until) == (30, 32, 32, story.count)
    assert story.count == 42
    assert first.box_xyxy == (0, 10, 60, 20)
    assert (first.area_px, first.contrast) == (200, 255.0)
    assert [story.state(n) for n in (0, 19, 20, 29, 30, 31, 32, 41)] == [
        0, 0, 50, 50, 60, 80, 100, 100,
    ]  # fmt: skip


def test_nearly_there_counts_as_shown():
    told = telling()
    told.change("move", "square", 100, way=[50, 98, 99])
    (change,) = told.end().changes
    # From 98 on, 40 of 200 pixels are left.
    assert (change.begun, change.shown, change.frame) == (20, 21, 23)


def test_a_change_of_another_subject_ends_nothing():
    told = telling()
    told.change("move", "square", 50)
    told.change("move", "another", 100)
    story = told.end()
    assert [c.until for c in story.changes] == [story.count, story.count]


def test_what_nobody_sees_is_no_change():
    told = telling()
    assert not told.change("move", "square", 1)  # 20 pixels
    assert told.end().changes == ()
    assert seen_difference(paint(0), np.maximum(paint(0), 8)) is None


def test_pauses_are_positive():
    with pytest.raises(ContractError, match="0 < a <= b"):
        Telling(paint, 0, 10, np.random.default_rng(1), (2.0, 1.0), quiet_s=0)


def test_a_table_story_repeats_and_its_boxes_hold_all_that_changes(tmp_path: Path):
    stamps = [
        square(tmp_path, f"thing {chr(97 + n)}", (30 * n, 255 - 30 * n, 60 * (n % 4)))
        for n in range(8)
    ]
    ground = np.full((180, 320, 3), 120, np.uint8)
    how = Table(stamps=stamps, changes=30, fps=10, sides_px=(16, 40))
    story = table_story(ground, how, np.random.default_rng(5))
    again = table_story(ground, how, np.random.default_rng(5))
    assert story.changes == again.changes
    assert story.states == again.states
    assert len(story.changes) == 30
    assert {c.kind for c in story.changes} == set(KINDS)
    for change in story.changes:
        before = story.paint(story.state(change.begun - 1)).astype(int)
        after = story.paint(story.state(change.frame)).astype(int)
        x0, y0, x1, y1 = change.box_xyxy
        moved = np.abs(before - after).max(2) > 8
        assert moved[y0:y1, x0:x1].sum() == moved.sum() == change.area_px
        assert 0 < change.begun <= change.shown <= change.frame < change.until <= story.count
