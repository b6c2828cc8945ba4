"""Decoders lowered for engines behind the runtime's cache: long prompts, drafts, going back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.bundle.static_cache import (
    CALL_ROWS,
    LOGIT_ROWS,
    ONNX_STD,
    TRT10_COMPAT,
    StaticLowering,
)
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.export.targets.relower import relower
from edgevlm.runtime.model.decoder import Decoder, open_decoder
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.kv_ring import KvRing
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.static_decoder import StaticDecoder, calls
from edgevlm.tensors import Float32
from tests.core.tiny import CONTEXT, weights

IDS = np.random.default_rng(1).integers(0, 256, CONTEXT)
ROWS: Float32 = weights()["model.embed_tokens.weight"][IDS]
LONG = 600  # over one call


@pytest.fixture(scope="module", params=[ONNX_STD, TRT10_COMPAT])
def path(request: pytest.FixtureRequest, tiny: Bundle, tmp_path_factory: pytest.TempPathFactory):
    lowering: StaticLowering = request.param
    return relower(tiny, lowering, "fp32", tmp_path_factory.mktemp(lowering))["decoder"].path


def opened(bundle: Bundle, graph: Path) -> Decoder:
    return open_decoder(bundle.manifest, open_backend("ort-cpu", threads=1).load(graph))


@pytest.fixture
def decoder(tiny: Bundle, path: Path) -> Iterator[Decoder]:
    made = opened(tiny, path)
    yield made
    made.close()
    made.close()


@pytest.fixture(scope="module")
def expected(tiny: Bundle) -> Float32:
    """Logits of ``ort-gqa`` at each of ``LONG`` positions."""
    theirs = opened(tiny, tiny.path("decoder.onnx"))
    return np.concatenate(
        [theirs.append(ROWS[n : n + 300], logits=300).copy() for n in range(0, LONG, 300)]
    )


def close(found: Float32, wanted: Float32) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 511, 512, 513, 528, 529, 1200])
@pytest.mark.parametrize("logits", [1, 16, 17, 40, 512])
def test_calls_cover_the_rows_and_none_is_larger_than_an_engine_takes(count: int, logits: int):
    wanted = min(logits, count)
    made = list(calls(count, wanted))
    assert (made[0][0], made[-1][1]) == (0, count)
    assert all(a[1] == b[0] for a, b in pairwise(made))
    assert all(0 < stop - start <= CALL_ROWS for start, stop, _ in made)
    assert all(n <= LOGIT_ROWS for *_, n in made)
    given = [row for start, stop, n in made for row in range(stop - n, stop) if stop > start]
    assert given == list(range(count - wanted, count))


@pytest.mark.parametrize("logits", [1, 7, 100])
def test_a_prompt_longer_than_a_call_gives_the_same_logits(
    decoder: Decoder, expected: Float32, logits: int
):
    assert isinstance(decoder, StaticDecoder)
    close(decoder.append(ROWS[:LONG], logits=logits), expected[LONG - logits :])
    assert decoder.length == LONG


@pytest.mark.parametrize("parts", [(1, 599), (512, 88), (513, 87), (300, 300)])
def test_the_cut_between_two_calls_does_not_matter(
    decoder: Decoder, expected: Float32, parts: tuple[int, int]
):
    decoder.append(ROWS[: parts[0]])
    close(decoder.append(ROWS[parts[0] : LONG]), expected[-1:])


def test_a_draft_is_checked_at_once_and_its_wrong_end_taken_back(
    decoder: Decoder, expected: Float32
):
    decoder.append(ROWS[:30])
    draft = np.concatenate([ROWS[30:34], ROWS[500:504]])  # half of it right
    found = decoder.append(draft, logits=8)
    close(found[:4], expected[30:34])
    decoder.rewind(34)
    close(decoder.append(ROWS[34:36], logits=2), expected[34:36])
    decoder.rewind(0)
    close(decoder.append(ROWS[:5], logits=5), expected[:5])


def test_the_cache_is_full_when_it_says_so(decoder: Decoder, expected: Float32):
    decoder.append(ROWS[: CONTEXT - 1])
    assert decoder.room(1) == 0
    decoder.append(ROWS[CONTEXT - 1 :])
    with pytest.raises(ContextOverflow, match="701 tokens do not fit the context of 700"):
        decoder.append(ROWS[:1])
    decoder.rewind(40)
    close(decoder.append(ROWS[40:41]), expected[40:41])


@pytest.mark.parametrize("length", [-1, 6])
def test_it_does_not_go_back_to_where_it_has_not_been(decoder: Decoder, length: int):
    decoder.append(ROWS[:5])
    with pytest.raises(ContractError, match=f"cannot rewind to {length}: the cache holds 5"):
        decoder.rewind(length)


@pytest.mark.parametrize(("rows", "logits"), [(0, 1), (3, 0), (3, 4)])
def test_logits_of_rows_that_are_not_there_are_refused(decoder: Decoder, rows: int, logits: int):
    with pytest.raises(ContractError, match=f"{logits} rows of logits from {rows} rows"):
        decoder.append(ROWS[:rows], logits=logits)


def test_two_decoders_on_one_graph_do_not_share_their_cache(
    tiny: Bundle, path: Path, expected: Float32
):
    graph = open_backend("ort-cpu", threads=1).load(path)
    one, other = (open_decoder(tiny.manifest, graph) for _ in range(2))
    one.append(ROWS[:10])
    other.append(ROWS[300:310])
    close(one.append(ROWS[10:12]), expected[11:12])


def test_positions_leave_the_middle_as_they_do_from_our_own_cache(decoder: Decoder, tiny: Bundle):
    """``test_eviction`` holds the latter against transformers."""
    theirs = opened(tiny, tiny.path("decoder.onnx"))
    assert isinstance(decoder, StaticDecoder)
    assert isinstance(theirs, CachedDecoder)
    for one in (decoder, theirs):
        one.append(ROWS[:90])
    if not decoder._cache.pairs:  # of trt10-compat
        with pytest.raises(ContractError, match="nothing can be evicted"):
            decoder.evict(4, 40)
        with pytest.raises(ContractError, match="does not update it in place"):
            KvRing(decoder, vision=40, text=10)
        return
    for one in (decoder, theirs):
        one.evict(4, 40)
        one.evict(10, 20)
    assert decoder.length == decoder.position == 44
    close(decoder.append(ROWS[90:100], logits=10), theirs.append(ROWS[90:100], logits=10))
    theirs.close()
