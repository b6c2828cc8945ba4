"""The decoder with its KV cache, against the reference that keeps no cache on any device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.runtime.model.kv_cache import CHUNK, CachedDecoder
from edgevlm.runtime.model.load import open_backend
from edgevlm.tensors import Float32
from tests.core.tiny import CONTEXT, HIDDEN, save_checkpoint, weights

LONG = 600  # over one chunk
IDS = np.random.default_rng(1).integers(0, 256, CONTEXT)
ROWS: Float32 = weights()["model.embed_tokens.weight"][IDS]


@pytest.fixture(scope="module")
def expected(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Float32:
    """The reference's logits at every one of ``LONG`` positions."""
    folder: Path = tmp_path_factory.mktemp("reference") / "checkpoint"
    save_checkpoint(folder)
    reference = NumpyDecoder(tiny.manifest.decoder, Checkpoint(folder).view("model.", ""))
    return reference.forward(ROWS[:LONG])


@pytest.fixture
def decoder(tiny: Bundle) -> Iterator[CachedDecoder]:
    """An empty cache in front of the small model."""
    graph = open_backend("ort-cpu", threads=1).load(tiny.path("decoder.onnx"))
    made = CachedDecoder(graph, tiny.manifest.kv, tiny.manifest.decoder)
    yield made
    made.close()


def close(found: Float32, expected: Float32) -> None:
    """Equal but for the order of float32 sums."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))


def test_one_call_gives_the_logits_of_the_last_rows(decoder: CachedDecoder, expected: Float32):
    close(decoder.append(ROWS[:40], logits=40), expected[:40])
    decoder.rewind(0)
    close(decoder.append(ROWS[:40], logits=3), expected[37:40])
    decoder.rewind(0)
    close(decoder.append(ROWS[:40]), expected[39:40])


def test_token_by_token_gives_what_one_call_gives(decoder: CachedDecoder, expected: Float32):
    for position in range(20):
        close(decoder.append(ROWS[position : position + 1]), expected[position : position + 1])
    assert decoder.length == 20


@pytest.mark.parametrize("logits", [1, 7, 88, 100, CHUNK])
def test_a_prompt_longer_than_a_chunk_gives_the_same_logits(
    decoder: CachedDecoder, expected: Float32, logits: int
):
    close(decoder.append(ROWS[:LONG], logits=logits), expected[LONG - logits :])
    assert decoder.length == LONG


@pytest.mark.parametrize("parts", [(1, 599), (512, 88), (513, 87), (300, 300), (599, 1)])
def test_the_cut_between_two_calls_does_not_matter(
    decoder: CachedDecoder, expected: Float32, parts: tuple[int, int]
):
    first, _ = parts
    decoder.append(ROWS[:first])
    close(decoder.append(ROWS[first:LONG]), expected[LONG - 1 : LONG])


def test_going_back_forgets_what_lies_behind(decoder: CachedDecoder, expected: Float32):
    decoder.append(ROWS[:30])
    decoder.append(ROWS[400:450])  # another continuation
    decoder.rewind(30)
    assert decoder.length == 30
    close(decoder.append(ROWS[30:50], logits=20), expected[30:50])
    decoder.rewind(0)
    close(decoder.append(ROWS[:5], logits=5), expected[:5])


def test_two_decoders_do_not_share_their_cache(tiny: Bundle, expected: Float32):
    graph = open_backend("ort-cpu", threads=1).load(tiny.path("decoder.onnx"))
    one, other = (CachedDecoder(graph, tiny.manifest.kv, tiny.manifest.decoder) for _ in range(2))
    one.append(ROWS[:10])
    other.append(ROWS[300:310])
    close(one.append(ROWS[10:12]), expected[11:12])
    one.close()
    other.close()


@pytest.mark.parametrize("length", [-1, 6, 700])
def test_it_does_not_go_back_to_where_it_has_not_been(decoder: CachedDecoder, length: int):
    decoder.append(ROWS[:5])
    with pytest.raises(ContractError, match=f"cannot rewind to {length}: the cache holds 5"):
        decoder.rewind(length)
    assert decoder.length == 5


def test_the_cache_takes_as_many_tokens_as_it_says_and_not_one_more(
    decoder: CachedDecoder, expected: Float32
):
    assert decoder.capacity == CONTEXT
    decoder.append(ROWS[:LONG])
    with pytest.raises(ContextOverflow, match="701 tokens do not fit the context of 700"):
        decoder.append(np.zeros((CONTEXT - LONG + 1, HIDDEN), np.float32))
    assert decoder.length == LONG
    decoder.append(ROWS[LONG:CONTEXT])
    assert decoder.length == CONTEXT
    with pytest.raises(ContextOverflow, match="--max-context"):
        decoder.append(ROWS[:1])
    decoder.rewind(10)  # and it still works
    close(decoder.append(ROWS[10:12]), expected[11:12])


@pytest.mark.parametrize(
    ("rows", "logits"), [(0, 1), (3, 0), (3, 4), (3, -1), (CHUNK + 1, CHUNK + 1)]
)
def test_a_bad_count_of_logits_is_refused(decoder: CachedDecoder, rows: int, logits: int):
    with pytest.raises(ContractError, match=f"{logits} rows of logits from {rows} rows"):
        decoder.append(ROWS[:rows], logits=logits)
    assert decoder.length == 0


def test_closing_twice_is_fine(decoder: CachedDecoder):
    decoder.close()
    decoder.close()
