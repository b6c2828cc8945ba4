"""Several sequences in one call: every row as the decoder computes it alone, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.bundle import Bundle
from edgevlm.runtime.model.branches import BranchedDecoder, deviation, open_branches
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.load import open_backend
from tests.export.targets.specs import FEATURES, bundle_of, spec_of

CAPACITY = 256
TIED_TO_ONE = {
    "prefix attention", "rows and columns", "deepstack", "short convolutions",
    "short convolutions with biases", "heads of 24",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A decoder of random weights, and the same for several sequences."""

    decoder: CachedDecoder
    branched: BranchedDecoder
    table: EmbeddingTable


@pytest.fixture(
    scope="module",
    params=itertools.product(sorted(FEATURES.keys() - TIED_TO_ONE), ("fp32", "int4")),
    ids=", ".join,
)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    feature, precision = request.param
    root = tmp_path_factory.mktemp("branches")
    bundle = bundle_of(spec_of(feature), root / "bundle", precision, capacity=CAPACITY)
    backend = open_backend("ort-cpu", threads=1, spin=False)
    spec, kv, _ = bundle.manifest.language
    decoder = CachedDecoder(backend.load(bundle.path("decoder.onnx")), kv, spec)
    table = EmbeddingTable(bundle)
    branched = open_branches(bundle, backend, decoder, table)
    assert branched is not None
    yield Case(decoder, branched, table)
    branched.close()
    decoder.close()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_goes_together_every_row_is_that_of_the_decoder(case: Case, data: st.DataObject):
    decoder, branched, table = case.decoder, case.branched, case.table
    random = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))

    def tokens(count: int) -> list[int]:
        return random.integers(0, len(table), count).tolist()

    shared = tokens(data.draw(st.integers(0, 40), label="shared"))
    decoder.rewind(0)
    if shared:
        decoder.append(table.rows(shared))
    cache = decoder.memory()
    assert cache is not None
    branched.begin_with(cache, len(shared))
    said: dict[int, list[int]] = {b: [] for b in range(branched.count)}
    sizes = st.dictionaries(
        st.integers(0, branched.count - 1),
        st.one_of(st.just(1), st.integers(2, 8), st.sampled_from([16, 17, 33, 70])),
        min_size=1,
    )
    for sizes_now in data.draw(st.lists(sizes, min_size=1, max_size=3), label="rows"):
        call = {b: tokens(count) for b, count in sizes_now.items()}
        found = branched.append({b: table.rows(ids) for b, ids in call.items()})
        for b, ids in call.items():
            said[b] += ids
            decoder.rewind(len(shared))
            alone = decoder.append(table.rows(said[b]))
            np.testing.assert_array_equal(found[b], alone[-1])
    assert branched.lengths == [len(shared) + len(ids) for ids in said.values()]


def test_a_row_that_comes_out_otherwise_shows(case: Case, monkeypatch: pytest.MonkeyPatch):
    assert deviation(case.branched, case.decoder, case.table) == 0
    begin = case.branched.begin_with
    monkeypatch.setattr(
        case.branched, "begin_with", lambda cache, length: begin(cache, length - 1)
    )  # a position is missing
    assert deviation(case.branched, case.decoder, case.table) > 1e-3


@pytest.mark.parametrize("feature", sorted(TIED_TO_ONE))
def test_a_decoder_whose_rows_are_tied_to_more_has_none(feature: str, tmp_path: Path):
    bundle = bundle_of(spec_of(feature), tmp_path / "bundle", capacity=CAPACITY)
    assert bundle.manifest.graphs["decoder"].branches is None
    assert not (bundle.root / "decoder.branches.onnx").exists()


def test_the_weights_are_the_decoders_own(tmp_path: Path):
    bundle: Bundle = bundle_of(spec_of("llama"), tmp_path / "bundle", "int4")
    entry = bundle.manifest.graphs["decoder"].branches
    assert entry is not None

    def outside(name: str) -> dict[str, list[tuple[str, str]]]:
        model = onnx.load(bundle.path(name), load_external_data=False)
        return {
            w.name: sorted((e.key, e.value) for e in w.external_data)
            for w in model.graph.initializer
            if w.external_data
        }

    assert outside(entry.file) == outside("decoder.onnx") != {}
