"""Several answers at once: a decoder graph that takes rows of several sequences in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.parity import max_abs
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import TILE, CachedDecoder
from edgevlm.tensors import Array, Float32

CALL_ROWS = 64  # of one branch in a call: bounds the activations of long questions
SPARE = 2  # positions behind every branch, for rows that are computed and forgotten
PROMPT, PARTS, STEPS = 24, (3, 17, 1, 33), 3  # of the measurement


class BranchedDecoder:
    """Sequences that go through the matrices together, each with a cache of its own.

    No product has a single row left over, as in ``CachedDecoder``, and no branch attends with one
    alone: every row comes out as that decoder computes it. Memory that a cache has not reached is
    not touched.

    Args:
        graph: the loaded graph.
        layout: of one cache.
        spec: shape of the decoder.
        count: branches.
    """

    def __init__(self, graph: Graph, layout: KVLayout, spec: DecoderSpec, count: int) -> None:
        self.count = count
        self.capacity = layout.capacity - SPARE
        self.lengths = [0] * count
        self._spec = spec
        self._names = [f"{i}.{part}" for i in layout.attention_layers for part in ("key", "value")]
        self._state = graph.bind(
            {
                f"present.{b}.{name}": f"past_key_values.{b}.{name}"
                for b in range(count)
                for name in self._names
            }
        )

    def begin_with(self, cache: Mapping[str, Array], length: int) -> None:
        """Begin every branch with the first positions of a cache.

        Args:
            cache: ``CachedDecoder.memory()``.
            length: positions.
        """
        for b in range(self.count):
            for name in self._names:
                own = self._state.memory(f"past_key_values.{b}.{name}")
                if own is not None:
                    own[:, :, :length] = cache[name][:, :, :length]
        self.lengths = [length] * self.count

    def append(self, parts: Mapping[int, Float32]) -> dict[int, Float32]:
        """Run rows behind what the branches hold.

        Args:
            parts: branch -> embeddings, float32 ``(tokens, hidden_size)``, at least one row, which
                fit its cache.

        Returns:
            branch -> float32 ``(vocab_size,)``, the logits of its last row; valid until the next
            call.
        """
        found: dict[int, Float32] = {}
        longest = max(map(len, parts.values()))
        for start in range(0, longest, CALL_ROWS):
            stop = start + CALL_ROWS
            call = {b: rows[start:stop] for b, rows in parts.items() if len(rows) > start}
            ending = [b for b in call if len(parts[b]) <= stop]
            now = self._call(call, ending)
            found |= now if stop >= longest else {b: row.copy() for b, row in now.items()}
        return found

    def _call(self, parts: Mapping[int, Float32], ending: Sequence[int]) -> dict[int, Float32]:
        feeds: dict[str, Array] = {}
        kept: list[int] = []
        last: dict[int, int] = {}  # branch -> its last row
        at = attended = 0
        for b in range(self.count):
            rows = len(parts.get(b, ()))
            # An idle branch attends with rows of others, behind its end, and they are forgotten.
            mine = list(range(at, at + rows)) or [0, 0]
            if rows % TILE == 1:
                mine.append(mine[-1])
            total = self.lengths[b] + len(mine)
            feeds[f"rows.{b}"] = np.array(mine, np.int64)
            feeds[f"seqlens_k.{b}"] = np.array([total - 1], np.int32)
            feeds[f"total.{b}"] = np.array(total, np.int32)
            kept += range(attended, attended + rows)
            attended, at = attended + len(mine), at + rows
            self.lengths[b] += rows
            last[b] = at - 1
        embeds = [parts[b] for b in sorted(parts)]
        if at % TILE == 1:
            embeds.append(embeds[-1][-1:])
            kept.append(kept[-1])
        wanted = [last[b] for b in ending] or [at - 1]
        if len(wanted) % TILE == 1:
            wanted.append(wanted[-1])
        feeds["inputs_embeds"] = np.concatenate(embeds)[None]
        feeds["kept"] = np.array(kept, np.int64)
        feeds["logit_rows"] = np.array(wanted, np.int64)
        self._state.run(feeds, {"logits": (len(wanted), self._spec.vocab_size)})
        logits = np.asarray(self._state.output("logits"), np.float32)
        return {b: logits[n] for n, b in enumerate(ending)}

    def close(self) -> None:
        """Release the caches; may be called twice."""
        self._state.close()


def open_branches(
    bundle: Bundle, backend: Backend, decoder: Decoder, table: EmbeddingTable
) -> BranchedDecoder | None:
    """The bundle's decoder for several sequences, if it computes what the decoder does.

    That is measured here, bit for bit, on prompts and steps of every branch. The graph is a session
    of its own: it holds the decoder's weights once more, as the engine packs them.

    Args:
        bundle: of a language model.
        backend: loads the graph.
        decoder: of the bundle; its cache is empty afterwards.
        table: embeddings of the vocabulary.

    Returns:
        None: the bundle has no such graph, the cache is not in the host's memory, or a row comes
        out otherwise in company.
    """
    entry = bundle.manifest.graphs["decoder"].branches
    spec = bundle.manifest.decoder
    if entry is None or spec is None or not isinstance(decoder, CachedDecoder):
        return None
    if decoder.memory() is None:
        return None
    graph = backend.load(bundle.path(entry.file), burst=True)
    made = BranchedDecoder(graph, bundle.manifest.language.kv, spec, entry.count)
    if deviation(made, decoder, table) == 0:
        return made
    made.close()
    graph.close()
    return None


def deviation(branched: BranchedDecoder, decoder: CachedDecoder, table: EmbeddingTable) -> float:
    """The largest difference of any logit from the decoder's own; its cache is empty afterwards."""
    cache = decoder.memory()
    parts = [PARTS[b % len(PARTS)] for b in range(branched.count)]
    most = max(parts) + STEPS + SPARE
    prompt = min(PROMPT, decoder.capacity - most)
    if cache is None or prompt < 1:
        return float("inf")
    ids = np.random.default_rng(8).integers(0, len(table), (branched.count + 1, prompt + most))
    rows = [table.rows(own.tolist()) for own in ids]
    decoder.rewind(0)
    decoder.append(rows[-1][:prompt])
    branched.begin_with(cache, prompt)
    begun = {b: rows[b][:own] for b, own in enumerate(parts)}
    steps = [{b: rows[b][own + n :][:1] for b, own in enumerate(parts)} for n in range(STEPS)]
    calls = [begun, *steps]
    found = [{b: row.copy() for b, row in branched.append(call).items()} for call in calls]
    worst = 0.0
    for b in range(branched.count):
        decoder.rewind(prompt)
        for call, together in zip(calls, found, strict=True):
            worst = max(worst, max_abs(decoder.append(call[b])[-1], together[b]))
    decoder.rewind(0)
    return worst
