"""From a picture of any shape to the encoder's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.runtime.model.pictures import prepare

SIDES = st.integers(1, 400)
FITS = st.sampled_from(["letterbox", "stretch", "crop"])
FILTERS = st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"])


def spec(height: int, width: int, fit: Any = "letterbox", **more: Any) -> ImageSpec:
    """An image section of a manifest."""
    policy = {k: more.pop(k) for k in ("background", "shortest") if k in more}
    return ImageSpec(policy=Fit(height=height, width=width, fit=fit, **policy), **more)


def fit_image(picture: np.ndarray, section: ImageSpec) -> np.ndarray:
    """The one picture that the encoder gets."""
    (fitted,) = prepare(picture, section).pixels
    return fitted


def photo(height: int, width: int) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, FITS, FILTERS)
@example(3, 1000, 224, 224, "crop", "bicubic")
@example(1000, 1, 224, 224, "crop", "lanczos")
@example(1, 5000, 224, 224, "letterbox", "bicubic")
def test_every_shape_gives_the_encoders_shape_and_a_flat_colour_stays_that_colour(
    height: int, width: int, to_height: int, to_width: int, fit: str, resample: str
):
    colour = (40, 90, 200)
    flat = np.full((height, width, 3), colour, np.uint8)
    fitted = fit_image(flat, spec(to_height, to_width, fit, resample=resample, background=colour))
    assert fitted.dtype == np.uint8
    assert fitted.shape == (to_height, to_width, 3)
    assert (fitted == colour).all()


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_a_letterbox_keeps_the_aspect_ratio_in_the_middle_of_its_background(
    height: int, width: int, to_height: int, to_width: int
):
    flat = np.full((height, width, 3), 10, np.uint8)
    fitted = fit_image(flat, spec(to_height, to_width, background=(1, 2, 3)))
    inside = (fitted == 10).all(-1)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside[np.ix_(rows, columns)].all()
    assert (fitted[~inside] == (1, 2, 3)).all()
    scale = min(to_height / height, to_width / width)
    assert abs(len(rows) - max(1, height * scale)) <= 0.5 + 1e-9
    assert abs(len(columns) - max(1, width * scale)) <= 0.5 + 1e-9
    for found, whole in ((rows, to_height), (columns, to_width)):
        before, after = found[0], whole - 1 - found[-1]
        assert 0 <= after - before <= 1
        assert found[-1] - found[0] + 1 == len(found)
    assert len(rows) == to_height or len(columns) == to_width


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("size", [(32, 32), (17, 40), (1, 9)])
def test_a_picture_of_the_right_size_is_not_touched(fit: str, size: tuple[int, int]):
    picture = photo(*size)
    np.testing.assert_array_equal(fit_image(picture, spec(*size, fit)), picture)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 300), st.integers(2, 300), st.integers(2, 300), st.integers(2, 300))
def test_a_crop_is_the_one_that_pillow_calls_fit(
    height: int, width: int, to_height: int, to_width: int
):
    picture = photo(height, width)
    expected = ImageOps.fit(
        Image.fromarray(picture), (to_width, to_height), Image.Resampling.BILINEAR
    )
    fitted = fit_image(picture, spec(to_height, to_width, "crop", resample="bilinear"))
    assert np.abs(fitted.astype(int) - np.asarray(expected)).max() <= 2


def test_a_crop_cuts_equally_from_both_ends():
    picture = np.zeros((4, 12, 3), np.uint8)
    picture[:, 4:8] = 255
    assert (fit_image(picture, spec(4, 4, "crop")) == 255).all()
    tall = picture.swapaxes(0, 1)
    assert (fit_image(tall, spec(4, 4, "crop")) == 255).all()


def test_a_stretch_uses_the_whole_picture():
    picture = np.zeros((2, 100, 3), np.uint8)
    picture[:, 50:] = 255
    fitted = fit_image(picture, spec(10, 10, "stretch", resample="nearest"))
    assert (fitted[:, :5] == 0).all()
    assert (fitted[:, 5:] == 255).all()


def test_the_filter_is_the_one_that_was_asked_for():
    picture = photo(50, 50)
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
        expected = Image.fromarray(picture).resize((20, 30), Image.Resampling[name.upper()])
        fitted = fit_image(picture, spec(30, 20, "stretch", resample=name))
        np.testing.assert_array_equal(fitted, np.asarray(expected))


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_a_view_of_a_larger_array_is_fitted_like_its_copy(fit: str):
    view = photo(40, 60)[::2, ::-3]
    np.testing.assert_array_equal(
        fit_image(view, spec(16, 16, fit)), fit_image(view.copy(), spec(16, 16, fit))
    )
