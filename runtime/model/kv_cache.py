"""The decoder and its KV cache: append rows, get logits, go back."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.manifest import KVLayout
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Graph
from edgevlm.tensors import Float32

CHUNK = 512  # rows per call at most: bounds the activations of a long prompt


class CachedDecoder:
    """A decoder graph whose keys and values stay in one preallocated buffer a layer.

    Going back to an earlier position costs nothing: what lies behind it is overwritten.

    Args:
        graph: the loaded decoder.
        layout: of the cache.
        vocab_size: width of the logits.
    """

    def __init__(self, graph: Graph, layout: KVLayout, vocab_size: int) -> None:
        self.capacity = layout.capacity
        self.length = 0
        self._vocab_size = vocab_size
        self._state = graph.bind(
            {
                f"present.{i}.{part}": f"past_key_values.{i}.{part}"
                for i in range(layout.layers)
                for part in ("key", "value")
            }
        )
        self._last_seqlen = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._count = np.ones(1, np.int64)

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on.

        Raises:
            ContractError: the cache is shorter than that.
        """
        if not 0 <= length <= self.length:
            raise ContractError(f"cannot rewind to {length}: the cache holds {self.length}")
        self.length = length

    def append(self, rows: Float32, logits: int = 1) -> Float32:
        """Run ``rows`` behind what the cache holds.

        Args:
            rows: embeddings, float32 ``(tokens, hidden_size)``.
            logits: for how many of the last rows logits are wanted, at most ``CHUNK``.

        Returns:
            float32 ``(logits, vocab_size)``, valid until the next call.

        Raises:
            ContextOverflow: more rows than the cache has room for.
            ContractError: no rows, or a bad count of logits.
        """
        count = len(rows)
        if not 1 <= logits <= min(count, CHUNK):
            raise ContractError(f"{logits} rows of logits from {count} rows")
        if self.length + count > self.capacity:
            raise ContextOverflow(
                f"{self.length + count} tokens do not fit the context of {self.capacity}: "
                "shorten the question, or export with a larger --max-context"
            )
        head = count - logits
        for start in range(0, head, CHUNK):
            stop = min(start + CHUNK, head)
            if stop == head and count - start <= CHUNK:
                return self._call(rows[start:], logits)
            self._call(rows[start:stop], 1)
        return self._call(rows[head:], logits)

    def _call(self, rows: Float32, logits: int) -> Float32:
        self.length += len(rows)
        self._last_seqlen[0] = self.length - 1
        self._total[...] = self.length
        self._count[0] = logits
        self._state.run(
            {
                "inputs_embeds": rows[None],
                "seqlens_k": self._last_seqlen,
                "total_sequence_length": self._total,
                "num_logits": self._count,
            },
            {"logits": (logits, self._vocab_size)},
        )
        return np.asarray(self._state.output("logits"), np.float32)

    def close(self) -> None:
        """Release the cache; may be called twice."""
        self._state.close()
