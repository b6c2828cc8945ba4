"""Rows of the embedding table, against the weights that they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano.packages import DECODER
from edgevlm.runtime.model.embedding import EmbeddingTable
from tests.core.tiny import weights


def test_rows_of_a_quantised_table_are_the_dequantised_rows_of_the_gguf(nano: Bundle):
    source = GgufFile(DECODER.locate()).get("embed_tokens.weight")
    table = EmbeddingTable(nano)
    assert len(table) == len(source) == 49152
    ids = [0, 1, 2, 49151, *np.random.default_rng(3).integers(0, 49152, 500).tolist()]
    np.testing.assert_array_equal(table.rows(ids), source[ids])


def test_rows_of_a_plain_table_are_the_rows_of_the_checkpoint(tiny: Bundle):
    table = EmbeddingTable(tiny)
    source = weights()["model.embed_tokens.weight"]
    ids = [0, 257, 5, 5, 100]
    rows = table.rows(ids)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, source[ids])
    assert len(table) == len(source)


def test_no_tokens_give_no_rows(nano: Bundle, tiny: Bundle):
    assert EmbeddingTable(nano).rows([]).shape == (0, 576)
    assert EmbeddingTable(tiny).rows([]).shape == (0, 64)


def test_a_row_does_not_change_with_the_next_call(nano: Bundle):
    table = EmbeddingTable(nano)
    first = table.rows([7])
    kept = first.copy()
    table.rows([8])
    np.testing.assert_array_equal(first, kept)


def with_embedding(bundle: Bundle, **change: Any) -> Bundle:
    """The bundle, its embedding entry changed, or gone if nothing is given."""
    table = dict(bundle.manifest.weights)
    entry = table.pop("embedding")
    if change:
        table["embedding"] = entry.model_copy(update=change)
    return Bundle(bundle.root, bundle.manifest.model_copy(update={"weights": table}))


def test_a_bundle_without_an_embedding_is_corrupt(tiny: Bundle):
    with pytest.raises(BundleCorrupt, match="names no embedding table"):
        EmbeddingTable(with_embedding(tiny))


def test_an_embedding_without_rows_is_corrupt(tiny: Bundle):
    with pytest.raises(BundleCorrupt, match="names no embedding table"):
        EmbeddingTable(with_embedding(tiny, layout="transposed"))


@pytest.mark.parametrize("change", [{"layout": "blocks"}, {"bits": 4}])
def test_an_embedding_of_a_layout_that_is_not_read_is_corrupt(tiny: Bundle, change: dict[str, Any]):
    with pytest.raises(BundleCorrupt, match="plain or 8-bit blocks"):
        EmbeddingTable(with_embedding(tiny, **change))


def test_blocks_without_scales_are_corrupt(nano: Bundle):
    with pytest.raises(BundleCorrupt, match="plain or 8-bit blocks"):
        EmbeddingTable(with_embedding(nano, scales=None))
