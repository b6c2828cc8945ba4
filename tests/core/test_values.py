"""The value types that every room shares: what they refuse, and what they compute."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.errors import ContractError
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.tensors import DTYPES, TensorSpec

PIXELS = ArrayPixels(np.zeros((2, 3, 3), np.uint8))


def frame(**change: object) -> Frame:
    """A valid frame with some fields changed."""
    fields = {"index": 0, "pixels": PIXELS, "captured_ns": 1, "monotonic_ns": 1} | change
    return Frame(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["index", "captured_ns", "monotonic_ns"])
def test_a_frame_has_no_negative_index_or_time(field: str):
    assert getattr(frame(**{field: 0}), field) == 0
    with pytest.raises(ContractError, match=r"must not be negative.*-1"):
        frame(**{field: -1})


def test_a_frame_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame().index = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.int8), np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8), np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)  # fmt: skip
def test_pixels_are_uint8_rgb_and_the_message_says_what_came(array: np.ndarray):
    with pytest.raises(ContractError, match="uint8 RGB") as caught:
        ArrayPixels(array)
    assert f"got {array.dtype} {array.shape}" in str(caught.value)


def test_the_size_of_pixels_is_width_before_height():
    assert PIXELS.size_wh == (3, 2)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_luma_is_bt601_to_within_one_level(image: np.ndarray):
    exact = image.astype(np.float64) @ (0.299, 0.587, 0.114)
    luma = ArrayPixels(image).luma()
    assert luma.dtype == np.uint8
    assert luma.shape == image.shape[:2]
    assert np.abs(luma - exact).max() <= 1.5


def test_luma_of_black_and_white_keeps_the_full_range():
    for level in (0, 255):
        assert (ArrayPixels(np.full((2, 2, 3), level, np.uint8)).luma() == level).all()


@pytest.mark.parametrize("dtype", ["float64", "float", "", "uint16", "Float32"])
def test_a_tensor_of_an_unknown_dtype_is_refused(dtype: str):
    with pytest.raises(ContractError, match="is not one of"):
        TensorSpec(name="x", dtype=dtype, shape=(1,))


@pytest.mark.parametrize("shape", [(-1,), (2, ""), ("tokens", -5)])
def test_a_tensor_of_an_impossible_shape_is_refused(shape: tuple[int | str, ...]):
    with pytest.raises(ContractError, match="bad dimension"):
        TensorSpec(name="x", dtype="float32", shape=shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_fits_its_tensor_passes(dtype: str):
    spec = TensorSpec(name="x", dtype=dtype, shape=("tokens", 4))
    for tokens in (0, 1, 9):
        spec.check(np.zeros((tokens, 4), dtype))


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 5), np.float32), np.zeros(4, np.float32), np.zeros((1, 2, 4), np.float32),
        np.zeros((2, 4), np.float64), np.zeros((2, 4), np.float16), np.zeros((2, 4), ">f4"),
    ],
    ids=lambda a: f"{a.dtype.str}-{a.shape}",
)  # fmt: skip
def test_a_value_that_does_not_fit_its_tensor_is_refused_by_name(value: np.ndarray):
    spec = TensorSpec(name="rows", dtype="float32", shape=("tokens", 4))
    with pytest.raises(ContractError, match=r"'rows' must be float32 \('tokens', 4\), got"):
        spec.check(value)


@pytest.mark.parametrize("stage", [f.name for f in dataclasses.fields(Timing)])
@pytest.mark.parametrize("value", [-0.001, float("nan"), float("inf")])
def test_a_timing_is_finite_and_not_negative(stage: str, value: float):
    with pytest.raises(ContractError, match=f"timing '{stage}' must be finite"):
        Timing(**{stage: value})


@pytest.mark.parametrize("confidence", [-0.01, 1.01, float("nan")])
def test_a_confidence_is_a_probability(confidence: float):
    with pytest.raises(ContractError, match="confidence must be in"):
        Answer(
            text="", token_ids=(), finish_reason="stop", timings_ms=Timing(),
            tokens=TokenCounts(), backend="scripted", confidence=confidence,
        )  # fmt: skip


def test_every_contract_error_is_a_value_error_too():
    with pytest.raises(ValueError, match="timing"):
        Timing(total=-1)
