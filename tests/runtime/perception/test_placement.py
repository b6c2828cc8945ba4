"""Cells of the encoder's input, found again in the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.runtime.model.pictures.fit import fit_image
from edgevlm.runtime.model.pictures.placement import Placement, placed

FITS = ["letterbox", "corner", "stretch", "crop", "square", "shortest"]
SIDES = st.integers(40, 300)


@pytest.mark.parametrize("half_even", [False, True])
@pytest.mark.parametrize("fit", FITS)
@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.integers(60, 200))
def test_a_mark_lies_where_the_placement_says(
    fit: Any, half_even: bool, height: int, width: int, down: float, across: float, size: int
):
    policy = Fit(
        height=size, width=size, fit=fit, round_half_even=half_even, background=(0, 0, 0),
        shortest=size + 7 if fit == "shortest" else None,
    )  # fmt: skip
    picture = np.zeros((height, width, 3), np.uint8)
    row, column, half = int(down * height), int(across * width), 8
    picture[row - half : row + half, column - half : column + half] = 255
    fitted = fit_image(picture, ImageSpec(policy=policy, resample="bilinear"), policy)
    weights = fitted[..., 0].astype(np.float64)
    place = placed(policy, (height, width))
    box = place.to_input(np.array([[column - half, row - half, column + half, row + half]]))[0]
    if box.min() < 1 or box.max() > size - 1:
        return  # its edge is cut off: the middle of what is left says nothing
    y, x = np.indices(weights.shape) + 0.5
    found = (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()
    assert found == pytest.approx(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), abs=0.75)


@settings(deadline=None)
@given(st.sampled_from(FITS), SIDES, SIDES, st.integers(20, 200))
def test_there_and_back_is_the_same_box(fit: Any, height: int, width: int, size: int):
    place = placed(Fit(height=size, width=size + 3, fit=fit), (height, width))
    box = np.array([[0.25 * width, 0.1 * height, 0.5 * width, 0.9 * height]])
    assert place.to_picture(place.to_input(box), (height, width)) == pytest.approx(box)


def test_a_box_over_the_edge_is_cut_off_and_one_beside_the_picture_is_empty():
    place = Placement(scale_y=0.5, scale_x=0.5, top=10, left=0)
    boxes = np.array([[-10, 0, 20, 30], [0, 0, 20, 8]])
    assert place.to_picture(boxes, (80, 100)).tolist() == [[0, 0, 40, 40], [0, 0, 40, 0]]
