"""The decoder and its KV cache: append rows, get logits, go back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Graph
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.slots import Slotted
from edgevlm.tensors import Array, Float32

TILE = 16  # rows: the tiles of kernels are multiples of it
CHUNK = 512  # rows per call at most: bounds the activations of a long prompt


def runs(count: int, logits: int) -> Iterator[tuple[int, int, int]]:
    """Cut ``count`` rows into calls of at most ``CHUNK``.

    Yields:
        first row, row behind the last, and for how many of the last rows logits are wanted: all
        ``logits`` of the last call, and one elsewhere.
    """
    head = count - logits
    for start in range(0, head, CHUNK):
        stop = min(start + CHUNK, head)
        if stop == head and count - start <= CHUNK:
            yield start, count, logits
            return
        yield start, stop, 1
    yield head, count, logits


class CachedDecoder(Slotted):
    """A decoder graph whose keys and values stay in one preallocated buffer a layer.

    Kernels for one row and for several round differently, in four bits by as much as the gap
    between two tokens, and a row that is left alone behind the last full tile of a kernel counts as
    one. So a call that would leave one gets its last row twice, and the second is forgotten: on the
    CPU every row then comes out the same, bit for bit, whatever it was computed with. The last
    position of the cache, which has no room for a second row, is the exception.

    Going back to an earlier position costs nothing: what lies behind it is overwritten. A decoder
    with short convolutions also keeps their last inputs, which are overwritten at every call: it
    goes back to its beginning and to marked positions only.

    Args:
        graph: the loaded decoder.
        layout: of the cache.
        spec: shape of the decoder.
        watch: further outputs of the graph to keep after every call.
    """

    def __init__(
        self, graph: Graph, layout: KVLayout, spec: DecoderSpec, watch: tuple[str, ...] = ()
    ) -> None:
        super().__init__(layout, spec)
        self._watch = watch
        self._doubled = False  # the last call had its last row twice
        pairs = {
            f"present.{i}.{part}": f"past_key_values.{i}.{part}"
            for i in layout.attention_layers
            for part in ("key", "value")
        }
        self._kept = {past.removeprefix("past_key_values."): past for past in pairs.values()}
        self._state = graph.bind(pairs | (self._conv.pairs if self._conv is not None else {}))
        self._last_seqlen = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._count = np.ones(1, np.int64)

    def memory(self) -> dict[str, Array] | None:
        """Keys and values themselves, ``0.key`` and so on, ``(1, heads, capacity, head_dim)``.

        None where they are not in the host's memory, or are still to move there.
        """
        if self._moved:
            return None
        found = {name: self._state.memory(source) for name, source in self._kept.items()}
        arrays = {name: array for name, array in found.items() if array is not None}
        return arrays if len(arrays) == len(found) else None

    def append(self, rows: Rows | Float32, logits: int = 1) -> Float32:
        """Run ``rows`` behind what the cache holds.

        Args:
            rows: embeddings, float32 ``(tokens, hidden_size)``, or with what goes beside them.
            logits: for how many of the last rows logits are wanted, at most ``CHUNK``.

        Returns:
            float32 ``(logits, vocab_size)``, valid until the next call.

        Raises:
            ContextOverflow: more rows than the cache has room for.
            ContractError: no rows, a bad count of logits, or a second run of rows behind a prompt
                that sees itself in both directions.
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
        if self._spec.prefix_attention:
            if self.length and count > 1:
                raise ContractError(
                    f"{count} rows behind a prompt of {self.length}: this model takes its whole "
                    "prompt at once, and then one token a call"
                )
            return self._call(given, logits)
        for start, stop, wanted in runs(count, logits):
            found = self._call(given.part(start, stop), wanted)
        return found

    @property
    def watched(self) -> dict[str, Array]:
        """The watched outputs of the last call, one row a position, by name."""
        width, ours = self._spec.hidden_size, slice(-1 if self._doubled else None)
        return {name: self._state.output(name).reshape(-1, width)[ours] for name in self._watch}

    def _call(self, rows: Rows, logits: int) -> Float32:
        room = self.length + len(rows) < self.capacity
        self._doubled = len(rows) % TILE == 1 and room and self.wide and self.rewinds
        if not self._doubled:
            return self._run(rows, logits)
        found = self._run(rows.doubled(), logits + 1)[:-1]
        self.length -= 1
        return found

    def _run(self, rows: Rows, logits: int) -> Float32:
        begun, spec = self.length, self._spec
        self.length += len(rows)
        self._last_seqlen[0] = self.length - 1
        self._total[...] = self.length
        self._count[0] = logits
        feeds: dict[str, Array] = {
            "inputs_embeds": rows.embeds[None],
            "seqlens_k": self._last_seqlen,
            "total_sequence_length": self._total,
            "num_logits": self._count,
        }
        if self._slots is not None:
            feeds |= self._slots.place(begun, rows)
        if spec.deepstack_levels:
            shape = (spec.deepstack_levels, len(rows), spec.hidden_size)
            given = rows.deepstack
            features = np.zeros(shape, np.float32) if given is None else given
            feeds["deepstack"] = features[:, None]
        feeds |= self._to_begin_with()
        self._state.run(feeds, self._shapes(len(rows), logits))
        return np.asarray(self._state.output("logits"), np.float32)

    def _shapes(self, rows: int, logits: int) -> dict[str, tuple[int, ...]]:
        spec = self._spec
        shapes: dict[str, tuple[int, ...]] = {"logits": (logits, spec.vocab_size)}
        for name in self._watch:
            whole = name == "hidden.first" and spec.num_layers > 1
            shapes[name] = (1, rows if whole else logits, spec.hidden_size)
        return shapes

    def close(self) -> None:
        """Release the cache; may be called twice."""
        self._state.close()
