"""The head that holds patches against a bank, and the choice of patches for a bank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import ContractError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.matching import Patches
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.coreset import thinned, thinned_by_place


@pytest.fixture(scope="module")
def model(nano: Bundle) -> Iterator[Vlm]:
    """The built-in model."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded


def drawn(count: int, width: int, seed: int = 0, side: int = 28) -> Patches:
    """Random patches at random places."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Patches(features=features, places=rng.integers(0, side, (count, 2)))


@pytest.mark.parametrize("radius", [0.0, 3.0, np.inf])
@pytest.mark.parametrize("count", [1, 300, 9000])
def test_similarity_and_nearest_are_those_of_a_plain_search(model: Vlm, count: int, radius: float):
    width = model.matcher().spec.width
    query, bank = drawn(1500, width, 1), drawn(count, width, 2)
    similarity, nearest = model.matcher().match(query, bank, radius)
    cosines = query.features @ bank.features.T
    apart = np.abs(query.places[:, None] - bank.places[None]).max(-1)
    cosines[apart > radius] = -np.inf
    found = np.isfinite(cosines.max(1))
    assert similarity[found] == pytest.approx(cosines.max(1)[found], abs=1e-5)
    best = cosines[found, nearest[found]]
    assert best == pytest.approx(cosines.max(1)[found], abs=1e-5)
    assert (similarity[~found] < -1).all()
    assert (nearest[~found] == -1).all()


def test_patches_of_a_picture_are_of_length_one_and_most_like_themselves(model: Vlm):
    picture = np.random.default_rng(5).integers(0, 256, (120, 200, 3), np.uint8)
    patches = model.matcher().patches(model.encode(picture).outputs)
    assert np.linalg.norm(patches.features, axis=1) == pytest.approx(1, abs=1e-5)
    similarity, nearest = model.matcher().match(patches, patches, 0.0)
    assert similarity == pytest.approx(1, abs=1e-5)
    assert (nearest == np.arange(len(patches))).all()


def test_a_bank_of_another_width_or_none_is_refused(model: Vlm):
    query = drawn(3, model.matcher().spec.width)
    with pytest.raises(ContractError, match="a bank of 5 patches of 7 features"):
        model.matcher().match(query, drawn(5, 7))
    with pytest.raises(ContractError, match="a bank of 0 patches"):
        model.matcher().match(query, query.chosen(slice(0, 0)))


def test_a_bundle_without_the_head_says_what_it_can_do(tiny: Bundle):
    said = "'match' needs; this bundle can: ask"
    with load(tiny.root, threads=1, spin=False) as text, pytest.raises(ContractError, match=said):
        text.matcher()


def test_what_is_left_out_is_nearer_to_the_kept_than_they_are_to_each_other():
    patches = drawn(400, 16, 3)
    kept = thinned(patches, 40)
    assert len(kept) == 40
    away = np.linalg.norm(patches.features[:, None] - kept.features[None], axis=-1)
    between = np.linalg.norm(kept.features[:, None] - kept.features[None], axis=-1)
    np.fill_diagonal(between, np.inf)
    assert away.min(1).max() <= between.min() + 1e-5  # what greedy k-centre guarantees


def test_thinning_by_place_keeps_every_place_and_little_of_each():
    patches = drawn(2000, 16, 4, side=5)
    kept = thinned_by_place(patches, 100)
    assert len(np.unique(kept.places, axis=0)) == 25
    assert len(kept) <= 100
    assert thinned(patches, 5000) is patches
