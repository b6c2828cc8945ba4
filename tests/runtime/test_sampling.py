"""From logits to a token: the right one, the right share, and the same one again."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions

LOGITS = hnp.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-50, 50, width=32, allow_nan=False)
)
SHARES = np.array([0.5, 0.3, 0.15, 0.05])
FOUR = np.log(SHARES).astype(np.float32)
DRAWS = 8000


def sampler(**options: float | int | None) -> Sampler:
    """A sampler with these options."""
    return Sampler(SamplingOptions(**options))  # type: ignore[arg-type]


def drawn(logits: np.ndarray, **options: float | int) -> Counter[int]:
    """How often each token came."""
    made = sampler(seed=11, **options)
    return Counter(made.next(logits)[0] for _ in range(DRAWS))


def chi_square(found: Counter[int], shares: np.ndarray) -> float:
    """Pearson's statistic of the draws against expected shares."""
    return sum((found[i] - DRAWS * s) ** 2 / (DRAWS * s) for i, s in enumerate(shares))


@given(LOGITS)
def test_greedy_takes_the_first_of_the_largest_and_tells_its_probability(logits: np.ndarray):
    token, log_probability = sampler().next(logits)
    assert token == logits.tolist().index(logits.max())
    exact = logits.astype(np.float64)
    expected = exact[token] - np.log(np.exp(exact - exact.max()).sum()) - exact.max()
    assert log_probability == pytest.approx(expected, abs=1e-5)
    assert log_probability <= 1e-9


# 99.9th percentiles of chi-square with 3 and 2 degrees of freedom.
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_the_temperature_says(temperature: float):
    shares = SHARES ** (1 / temperature)
    assert chi_square(drawn(FOUR, temperature=temperature), shares / shares.sum()) < 16.27


def test_the_nucleus_is_renormalised():
    found = drawn(FOUR, temperature=1.0, top_p=0.9)
    assert set(found) == {0, 1, 2}
    assert chi_square(found, SHARES[:3] / SHARES[:3].sum()) < 13.82


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(1e-9, {0}), (0.49, {0}), (0.51, {0, 1}), (0.79, {0, 1}), (0.81, {0, 1, 2}),
     (0.96, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3})],
)  # fmt: skip
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, kept: set[int]):
    order = np.array([2, 0, 3, 1])  # not sorted by probability
    shuffled = np.empty_like(FOUR)
    shuffled[order] = FOUR
    assert set(drawn(shuffled, temperature=1.0, top_p=top_p)) == {int(order[i]) for i in kept}


def test_the_reported_probability_is_that_of_the_unscaled_distribution():
    made = sampler(temperature=3.0, top_p=0.9, seed=1)
    for _ in range(50):
        token, log_probability = made.next(FOUR)
        assert log_probability == pytest.approx(math.log(SHARES[token]), abs=1e-5)


def test_a_seed_gives_the_same_tokens_and_another_seed_others():
    flat = np.zeros(1000, np.float32)

    def sequence(seed: int | None) -> list[int]:
        made = sampler(temperature=1.0, seed=seed)
        return [made.next(flat)[0] for _ in range(20)]

    assert sequence(5) == sequence(5)
    assert sequence(5) != sequence(6)
    assert sequence(None) != sequence(None)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize(
    "logits",
    [
        [0.0, np.nan, 1.0], [np.nan] * 3, [0.0, np.inf], [np.inf, np.inf], [-np.inf, -np.inf],
        [np.inf, -np.inf], [np.nan, np.inf],
    ],
    ids=str,
)  # fmt: skip
def test_logits_that_are_not_finite_are_the_backends_fault(logits: list[float], temperature: float):
    with pytest.raises(BackendError, match="not finite"):
        sampler(temperature=temperature, seed=0).next(np.array(logits, np.float32))


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}])
def test_a_token_that_is_ruled_out_never_comes(options: dict[str, float]):
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    made = sampler(seed=2, **options)
    found = [made.next(logits) for _ in range(50)]
    assert {token for token, _ in found} <= {1, 3}
    assert all(p == pytest.approx(math.log(0.5), abs=1e-6) for _, p in found)


def test_sampling_does_not_change_the_logits():
    logits = FOUR.copy()
    sampler(temperature=0.5, top_p=0.5, seed=0).next(logits)
    np.testing.assert_array_equal(logits, FOUR)


def test_a_huge_vocabulary_with_huge_logits_does_not_overflow():
    logits = np.full(50_000, -1e4, np.float32)
    logits[77] = 1e4
    for temperature in (0.0, 0.01, 1.0):
        assert sampler(temperature=temperature, seed=0).next(logits) == (77, 0.0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": -0.1}, "temperature"), ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"), ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"), ({"top_p": math.nan}, "top_p"), ({"seed": -1}, "seed"),
    ],
)  # fmt: skip
def test_an_option_out_of_its_range_is_named(options: dict[str, float], name: str):
    with pytest.raises(ContractError, match=f"{name} must be"):
        SamplingOptions(**options)  # type: ignore[arg-type]
