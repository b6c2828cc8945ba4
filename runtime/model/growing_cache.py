"""The decoder of the onnx-community layout: keys and values come back longer with every call.

Inputs are introspected, because exporters of this layout differ in them: ``inputs_embeds``,
``attention_mask``, ``position_ids`` and ``past_key_values.{i}.{key,value}``, of newer ones
``num_logits_to_keep``, of older ones ``use_cache_branch``.
"""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Graph
from edgevlm.runtime.model.kv_cache import CHUNK, runs
from edgevlm.runtime.model.rows import Rows
from edgevlm.tensors import Array, Float32

PAST, PRESENT = "past_key_values.", "present."


class GrowingDecoder:
    """A decoder graph that takes its whole cache and gives it back with the new rows behind.

    Going back cuts the cache; that costs one copy of what is kept.

    Args:
        graph: the loaded decoder.
        layout: of the cache; its capacity bounds the context.
        spec: shape of the decoder.

    Raises:
        ContractError: the graph has an input that is none of this layout.
    """

    wide = True
    rewinds = True

    def __init__(self, graph: Graph, layout: KVLayout, spec: DecoderSpec) -> None:
        self.capacity = layout.capacity
        self.length = 0
        self._graph = graph
        self._spec = spec
        self._inputs = {t.name: t for t in graph.inputs}
        empty = (1, layout.kv_heads, 0, layout.head_dim)
        self._cache: dict[str, Array] = {
            name: np.zeros(empty, entry.dtype)
            for name, entry in self._inputs.items()
            if name.startswith(PAST)
        }
        odd = self._inputs.keys() - self._cache.keys() - self._feeds(Rows(_one(spec)), 1).keys()
        if odd:
            raise ContractError(f"the decoder graph has inputs of no known meaning: {sorted(odd)}")

    def room(self, rows: int) -> int:
        """Positions that are left behind so many further rows; below 0, they do not fit."""
        return self.capacity - self.length - rows

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on.

        Raises:
            ContractError: the cache is shorter than that.
        """
        if not 0 <= length <= self.length:
            raise ContractError(f"cannot rewind to {length}: the cache holds {self.length}")
        if length < self.length:
            for name, value in self._cache.items():
                self._cache[name] = np.ascontiguousarray(value[:, :, :length])
        self.length = length

    def mark(self) -> None:
        """Nothing to keep: any position can be gone back to."""

    def append(self, rows: Rows | Float32, logits: int = 1) -> Float32:
        """Run ``rows`` behind what the cache holds; arguments and errors as ``CachedDecoder``'s."""
        given = rows if isinstance(rows, Rows) else Rows(rows)
        count = len(given)
        if not 1 <= logits <= min(count, CHUNK):
            raise ContractError(f"{logits} rows of logits from {count} rows")
        if self.length + count > self.capacity:
            raise ContextOverflow(
                f"{self.length + count} tokens do not fit the context of {self.capacity}: "
                "shorten the question, or import with a larger --max-context"
            )
        for start, stop, wanted in runs(count, logits):
            found = self._call(given.part(start, stop), wanted)
        return found

    @property
    def watched(self) -> dict[str, Array]:
        """Nothing: graphs of this layout have no further outputs."""
        return {}

    def _call(self, rows: Rows, logits: int) -> Float32:
        feeds = self._feeds(rows, logits)
        outputs = self._graph.run(
            {n: feeds[n] if n in feeds else self._cache[n] for n in self._inputs}
        )
        for name in self._cache:
            self._cache[name] = outputs[PRESENT + name.removeprefix(PAST)]
        self.length += len(rows)
        found = outputs["logits"].reshape(-1, self._spec.vocab_size)[-logits:]
        return np.asarray(found, np.float32)

    def _feeds(self, rows: Rows, logits: int) -> dict[str, Array]:
        """What the graph may ask for besides its cache."""
        stop = self.length + len(rows)
        embeds = self._inputs.get("inputs_embeds")
        return {
            "inputs_embeds": rows.embeds[None].astype(embeds.dtype if embeds else "float32"),
            "attention_mask": np.ones((1, stop), np.int64),
            "position_ids": np.arange(self.length, stop)[None],
            "num_logits_to_keep": np.array(logits, np.int64),
            "use_cache_branch": np.array([self.length > 0]),
        }

    def close(self) -> None:
        """Release the cache; may be called twice."""
        self._cache = {}


def _one(spec: DecoderSpec) -> Float32:
    return np.zeros((1, spec.hidden_size), np.float32)
