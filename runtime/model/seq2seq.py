"""An encoder-decoder behind the same interface as a decoder with its cache."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.manifest import KVLayout
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.static_cache import PARTS, StaticCache, takes_positions
from edgevlm.tensors import Array, Float32

ENCODED = "encoded"


class Seq2SeqDecoder:
    """The first rows go through the encoder, every later row through the decoder.

    The encoder gives each decoder layer's keys and values of the prompt, once an answer. Lengths
    count the decoder's positions: its start token is behind the prompt.

    Args:
        encoder: the loaded encoder.
        decoder: the loaded decoder.
        layout: of the decoder's own cache.
        spec: shape of both.
        start: embedding of the start token, float32 ``(1, hidden_size)``.
        watch: further outputs of the decoder to keep after every call.
    """

    wide = False
    rewinds = True

    def __init__(
        self,
        encoder: Graph,
        decoder: Graph,
        layout: KVLayout,
        spec: Seq2SeqSpec,
        start: Float32,
        watch: tuple[str, ...] = (),
    ) -> None:
        self.capacity = layout.capacity
        self.length = 0
        self.encoded: Float32 | None = None  # the last prompt's rows, for the certificate
        self._encoder = encoder
        self._spec = spec
        self._start = start
        self._watch = watch
        names = [f"{i}.{part}" for i in range(layout.layers) for part in PARTS]
        self._own = StaticCache(decoder, names) if takes_positions(decoder) else None
        pairs = {f"present.{name}": f"past_key_values.{name}" for name in names}
        self._state = decoder.bind(pairs if self._own is None else self._own.pairs)

    def room(self, rows: int) -> int:
        """Positions that are left behind a prompt of so many rows: all but the start token's.

        Raises:
            ContextOverflow: more rows than the encoder has positions for.
        """
        if rows > self._spec.source_capacity:
            raise ContextOverflow(
                f"the prompt has {rows} rows and the encoder takes {self._spec.source_capacity}: "
                "shorten the question"
            )
        return self.capacity - 1

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on; at 0 the prompt too.

        Raises:
            ContractError: the cache is shorter than that.
        """
        if not 0 <= length <= self.length:
            raise ContractError(f"cannot rewind to {length}: the cache holds {self.length}")
        self.length = length

    def mark(self) -> None:
        """Nothing to keep: any position can be gone back to."""

    def append(self, rows: Rows | Float32, logits: int = 1) -> Float32:
        """Run a prompt, or behind one run rows of the answer.

        Args:
            rows: embeddings, float32 ``(rows, hidden_size)``.
            logits: for how many of the last rows logits are wanted; 1 behind a prompt.

        Returns:
            float32 ``(logits, vocab_size)``, valid until the next call.

        Raises:
            ContextOverflow: more rows than the encoder or the decoder has room for.
            ContractError: no rows, or a bad count of logits.
        """
        embeds = rows.embeds if isinstance(rows, Rows) else rows
        if not 1 <= logits <= (len(embeds) if self.length else 1):
            raise ContractError(f"{logits} rows of logits from {len(embeds)} rows")
        if self.length:
            return self._decode(embeds, {})[-logits:]
        if not len(embeds):
            raise ContractError("the prompt is empty")
        self.room(len(embeds))
        found = self._encoder.run({"inputs_embeds": embeds[None]})
        self.encoded = found.pop(ENCODED)[0]
        return self._decode(self._start, found)

    def _decode(self, embeds: Float32, cross: dict[str, Array]) -> Float32:
        """Logits of every row; the cross keys and values stay from one prompt to the next."""
        count, spec = len(embeds), self._spec
        if self.length + count > self.capacity:
            raise ContextOverflow(
                f"{self.length + count} tokens do not fit the decoder's {self.capacity}: export "
                "with a larger --max-context"
            )
        feeds: dict[str, Array] = {"inputs_embeds": embeds[None], **cross}
        shapes: dict[str, tuple[int, ...]] = {"logits": (count, spec.vocab_size)}
        begun = self.length
        self.length += count
        if self._own is not None:
            self._own.run(self._state, begun, count, feeds, shapes)
            return np.asarray(self._state.output("logits"), np.float32)
        feeds["seqlens_k"] = np.array([self.length - 1], np.int32)
        feeds["total_sequence_length"] = np.array(self.length, np.int32)
        shapes |= {name: (1, count, spec.hidden_size) for name in self._watch}
        self._state.run(feeds, shapes)
        return np.asarray(self._state.output("logits"), np.float32)

    @property
    def watched(self) -> dict[str, Array]:
        """The watched outputs of the last call, one row a position, by name."""
        width = self._spec.hidden_size
        watch = () if self._own is not None else self._watch  # graphs for engines have none
        return {name: self._state.output(name).reshape(-1, width) for name in watch}

    def close(self) -> None:
        """Release the cache and the encoder; may be called twice."""
        self._state.close()
        self._encoder.close()


def open_seq2seq(
    bundle: Bundle,
    backend: Backend,
    decoder: Graph,
    table: EmbeddingTable,
    watch: tuple[str, ...] = (),
) -> Seq2SeqDecoder:
    """Load the encoder, and put it before the bundle's decoder.

    Raises:
        ContractError: the bundle has no encoder-decoder.
        BackendError: a graph does not load.
    """
    spec, layout, _ = bundle.manifest.language
    if not isinstance(spec, Seq2SeqSpec):
        raise ContractError(f"{bundle.manifest.name} is no encoder-decoder")
    encoder = backend.load(bundle.path(bundle.manifest.graphs["encoder"].file))
    start = table.rows([spec.start_token_id])
    return Seq2SeqDecoder(encoder, decoder, layout, spec, start, watch)
