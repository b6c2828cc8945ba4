"""Positions taken out of the cache, against transformers with the same tokens kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from edgevlm.bundle import Bundle
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.kv_ring import KvRing, Region, Span
from edgevlm.runtime.model.rows import Rows
from tests.export.test_text_models import LLAMA3
from tests.export.tiny import VOCAB, config, decoder, export_to, save

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "llama, rotated before the operator": ("llama", {"head_dim": 24}),
    "qwen3, norms on keys": ("qwen3", {}),
}
IDS = [int(i) for i in np.random.default_rng(3).integers(2, VOCAB, 400)]
STEPS = 24


class Reference:
    """transformers, whose keys are kept as they were before their rotation.

    After an eviction every key that stays is rotated anew, by its new position, by transformers'
    own functions: nothing is turned back.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        layers = model.model.layers
        self._plain: list[list[torch.Tensor]] = [[] for _ in layers]
        self._hooks = [
            getattr(layer.self_attn, "k_norm", layer.self_attn.k_proj).register_forward_hook(
                self._keeper(n)
            )
            for n, layer in enumerate(layers)
        ]
        self.length = 0

    def _keeper(self, layer: int) -> Callable[..., None]:
        width = self._model.config.head_dim

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            self._plain[layer].append(output.reshape(1, output.shape[1], -1, width).transpose(1, 2))

        return keep

    def append(self, ids: list[int]) -> np.ndarray:
        """Logits of the last token."""
        places = torch.arange(self.length, self.length + len(ids))
        with torch.inference_mode():
            done = self._model(
                torch.tensor([ids]), past_key_values=self._cache,
                position_ids=places[None], use_cache=True,
            )  # fmt: skip
        self.length += len(ids)
        return done.logits[0, -1].numpy()

    def evict(self, start: int, stop: int) -> None:
        """Keep all but these, and rotate what stays from nothing."""
        kept = [n for n in range(self.length) if not start <= n < stop]
        self.length = len(kept)
        with torch.inference_mode():
            places = torch.arange(self.length)[None]
            for n, layer in enumerate(self._cache.layers):
                plain = torch.cat(self._plain[n], dim=2)[:, :, kept]
                self._plain[n] = [plain]
                cos, sin = self._model.model.rotary_emb(plain, places)
                layer.keys = apply_rotary_pos_emb(plain, plain, cos, sin)[1]
                layer.values = layer.values[:, :, kept]

    def greedy(self, ids: list[int], count: int) -> tuple[np.ndarray, list[int]]:
        logits, tokens = [self.append(ids)], []
        for _ in range(count):
            tokens.append(int(logits[-1].argmax()))
            logits.append(self.append(tokens[-1:]))
        return np.stack(logits), tokens

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


@pytest.fixture(scope="module", params=list(MODELS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Bundle]:
    """A model and its bundle."""
    kind, changes = MODELS[request.param]
    folder = tmp_path_factory.mktemp("evict")
    made = save(folder / "checkpoint", config(kind, **changes))
    return made.model, export_to(made.folder, folder / "bundle")


@pytest.fixture
def both(pair: tuple[Any, Bundle]) -> Iterator[tuple[Reference, CachedDecoder, EmbeddingTable]]:
    """Both sides, empty."""
    model, bundle = pair
    reference = Reference(model)
    with decoder(bundle) as (cached, table):
        yield reference, cached, table
    reference.close()


def greedy(
    cached: CachedDecoder, table: EmbeddingTable, ids: list[int], count: int
) -> tuple[np.ndarray, list[int]]:
    logits, tokens = [cached.append(table.rows(ids))[0].copy()], []
    for _ in range(count):
        tokens.append(int(logits[-1].argmax()))
        logits.append(cached.append(table.rows(tokens[-1:]))[0].copy())
    return np.stack(logits), tokens


def add(
    ring: KvRing, table: EmbeddingTable, ids: list[int], region: Region, at_s: float
) -> list[Span]:
    span = Span(region, float(at_s), tuple(ids))
    gone = ring.make_room(span)
    ring.append(Rows(table.rows(ids)), span)
    return gone


def same(found: tuple[np.ndarray, list[int]], wanted: tuple[np.ndarray, list[int]]) -> None:
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=2e-3)
    assert found[1] == wanted[1]


def test_logits_and_greedy_tokens_are_those_of_transformers_with_the_same_tokens_kept(
    both: tuple[Reference, CachedDecoder, EmbeddingTable],
):
    reference, cached, table = both
    reference.append(IDS[:100])
    cached.append(table.rows(IDS[:100]))
    reference.evict(4, 60)
    cached.evict(4, 60)
    assert cached.length == cached.position == reference.length == 44
    same(greedy(cached, table, IDS[100:110], STEPS), reference.greedy(IDS[100:110], STEPS))


def test_keys_that_were_turned_back_many_times_are_still_right(
    both: tuple[Reference, CachedDecoder, EmbeddingTable],
):
    """Spans of 11 in a ring of eight: every key moves seven times before it goes."""
    reference, cached, table = both
    reference.append(IDS[:4])
    cached.append(table.rows(IDS[:4]))
    for begun in range(4, 220 - 11, 11):
        if cached.length + 11 > 4 + 8 * 11:
            reference.evict(4, 15)
            cached.evict(4, 15)
        reference.append(IDS[begun : begun + 11])
        cached.append(table.rows(IDS[begun : begun + 11]))
    same(greedy(cached, table, [7], STEPS), reference.greedy([7], STEPS))


def test_without_the_rotation_the_logits_would_be_others(
    both: tuple[Reference, CachedDecoder, EmbeddingTable], monkeypatch: pytest.MonkeyPatch
):
    """The tolerance above tells a shifted cache from a right one."""
    from edgevlm.runtime.model import eviction

    monkeypatch.setattr(eviction, "turned_back", lambda keys, *_: keys.copy())
    reference, cached, table = both
    reference.append(IDS[:100])
    cached.append(table.rows(IDS[:100]))
    reference.evict(4, 60)
    cached.evict(4, 60)
    found, wanted = cached.append(table.rows([5]))[0], reference.append([5])
    assert np.abs(found - wanted).max() > 0.1


def test_the_ring_is_flat_however_long_the_stream(
    both: tuple[Reference, CachedDecoder, EmbeddingTable],
):
    """Capacity, buffers and positions after three thousand evicted positions."""
    _, cached, table = both
    ring = KvRing(cached, vision=60, text=20)
    ring.begin(Rows(table.rows(IDS[:4])), tuple(IDS[:4]))
    buffers = {n: id(s) for n, s in cached._state._state.items()}  # type: ignore[attr-defined]
    longest = 0
    for n in range(300):
        frame, note = IDS[n : n + 12], IDS[n + 1 : n + 6]
        add(ring, table, frame, "vision", n)
        if n % 3 == 0:
            add(ring, table, note, "text", n)
        longest = max(longest, cached.length)
        assert cached.length == len(ring.ids)
    assert longest == 4 + 60 + 20
    assert ring.evicted == 300 * 12 + 100 * 5 - 60 - 20
    assert {n: id(s) for n, s in cached._state._state.items()} == buffers  # type: ignore[attr-defined]
    assert ring.ids[:4] == IDS[:4]
    assert (ring.held("vision"), ring.held("text")) == (60, 20)
    assert [s.at_s for s in ring.spans if s.region == "vision"] == [295, 296, 297, 298, 299]


def test_spans_leave_by_their_own_regions_budget_and_by_wish(
    both: tuple[Reference, CachedDecoder, EmbeddingTable],
):
    reference, cached, table = both
    ring = KvRing(cached, vision=20, text=10)
    ring.begin(Rows(table.rows(IDS[:4])), tuple(IDS[:4]))
    regions: tuple[Region, ...] = ("vision", "text", "vision", "vision")
    for n, region in enumerate(regions):
        gone = add(ring, table, IDS[10 * n : 10 * n + 10], region, n)
    assert [(s.region, s.at_s) for s in gone] == [("vision", 0.0)]
    assert [s.at_s for s in ring.spans] == [1.0, 2.0, 3.0]
    assert [s.at_s for s in ring.forget(lambda s: s.at_s < 3)] == [1.0, 2.0]
    for ids in (IDS[:4], *(IDS[10 * n : 10 * n + 10] for n in range(3))):
        reference.append(ids)
    reference.evict(4, 14)
    reference.append(IDS[30:40])
    reference.evict(4, 24)
    same(greedy(cached, table, [9], 8), reference.greedy([9], 8))


def test_what_does_not_fit_is_refused(both: tuple[Reference, CachedDecoder, EmbeddingTable]):
    _, cached, table = both
    with pytest.raises(ContractError, match="no room in a cache of"):
        KvRing(cached, vision=cached.capacity, text=0)
    ring = KvRing(cached, vision=8, text=4)
    with pytest.raises(ContextOverflow, match="9 positions of vision do not fit its 8"):
        add(ring, table, IDS[:9], "vision", 0)
    with pytest.raises(ContractError, match="no room for 9 positions"):
        ring.append(Rows(table.rows(IDS[:9])), Span("vision", 0.0, tuple(IDS[:9])))
    with pytest.raises(ContractError, match="3 rows for 4 tokens"):
        ring.append(Rows(table.rows(IDS[:3])), Span("vision", 0.0, tuple(IDS[:4])))
    with pytest.raises(ContractError, match="cannot evict 3 to 5: the cache holds 0"):
        cached.evict(3, 5)
