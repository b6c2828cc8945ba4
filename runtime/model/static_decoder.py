"""A decoder whose graph was lowered for TensorRT: append rows, get logits, go back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.bundle.static_cache import CALL_ROWS, LOGIT_ROWS
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Graph
from edgevlm.runtime.model.kv_cache import CHUNK
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.slots import Slotted
from edgevlm.runtime.model.static_cache import PARTS, StaticCache
from edgevlm.tensors import Array, Float32


def calls(count: int, logits: int) -> Iterator[tuple[int, int, int]]:
    """Cut ``count`` rows into calls that an engine takes.

    Yields:
        first row, row behind the last, and for how many of the last rows logits are wanted: 0
            where the call only fills the cache.
    """
    start, begun = 0, count - logits
    while start < count:
        stop = min(start + CALL_ROWS, count)
        if stop > begun:  # no call has more rows with logits than LOGIT_ROWS
            stop = min(stop, max(start, begun) + LOGIT_ROWS)
        yield start, stop, max(0, stop - max(start, begun))
        start = stop


class StaticDecoder(Slotted):
    """A decoder of the lowerings ``onnx-std`` and ``trt10-compat``.

    Going back costs nothing: a row sees no slot behind its own position. A decoder with short
    convolutions goes back to marked positions only.

    Args:
        graph: the loaded decoder.
        layout: of the cache.
        spec: shape of the decoder.
    """

    def __init__(self, graph: Graph, layout: KVLayout, spec: DecoderSpec) -> None:
        super().__init__(layout, spec)
        names = [f"{i}.{part}" for i in layout.attention_layers for part in PARTS]
        self._cache = StaticCache(graph, names)
        self.evicts = self.evicts and bool(self._cache.pairs)
        conv = {} if self._conv is None else self._conv.pairs
        self._state = graph.bind({**self._cache.pairs, **conv})

    def append(self, rows: Rows | Float32, logits: int = 1) -> Float32:
        """Run ``rows`` behind what the cache holds; arguments and errors as ``CachedDecoder``'s.

        A prompt that sees itself in both directions is one call, from an empty cache; rows behind
        it see what is before them.
        """
        given = rows if isinstance(rows, Rows) else Rows(rows)
        count = len(given)
        if not 1 <= logits <= min(count, CHUNK):
            raise ContractError(f"{logits} rows of logits from {count} rows")
        if self.length + count > self.capacity:
            raise ContextOverflow(
                f"{self.length + count} tokens do not fit the context of {self.capacity}: "
                "shorten the question, or export with a larger --max-context"
            )
        if self._spec.prefix_attention and not self.length:
            return self._call(given, logits)
        found: list[Float32] = []
        for start, stop, wanted in calls(count, logits):
            last = self._call(given.part(start, stop), wanted)
            if stop == count and wanted == logits:
                return last
            found.append(last[:wanted].copy())
        return np.concatenate(found)

    @property
    def watched(self) -> dict[str, Array]:
        """Nothing: graphs for engines have no further outputs."""
        return {}

    def _call(self, rows: Rows, logits: int) -> Float32:
        """Logits of the last ``logits`` rows; of the last one where none are wanted."""
        begun, count, spec = self.length, len(rows), self._spec
        stop = begun + count
        first = count - max(logits, 1)
        feeds: dict[str, Array] = {
            "inputs_embeds": rows.embeds[None],
            "logit_rows": np.arange(first, count, dtype=np.int64),
        }
        if spec.prefix_attention:
            seen = np.arange(begun + 1, stop + 1, dtype=np.int64)
            feeds["visible"] = (seen if begun else np.full(count, count, np.int64))[None]
        if self._slots is not None:
            tables = self._slots.place(begun, rows)
            feeds |= {name: table[None, begun:stop] for name, table in tables.items()}
        if spec.deepstack_levels:
            shape = (spec.deepstack_levels, count, spec.hidden_size)
            features = np.zeros(shape, np.float32) if rows.deepstack is None else rows.deepstack
            feeds["deepstack"] = features[:, None]
        feeds |= self._to_begin_with()
        shapes = {"logits": (count - first, spec.vocab_size)}
        self._cache.run(self._state, begun, count, feeds, shapes)
        self.length = stop
        return np.asarray(self._state.output("logits"), np.float32)

    def close(self) -> None:
        """Release the cache; may be called twice."""
        self._state.close()
