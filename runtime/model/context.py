"""What of a prompt lies in the cache already: its constant part, and what questions share."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.passes import PREFILL_CHUNK
from edgevlm.runtime.model.prompt import Prompt
from edgevlm.runtime.model.rows import Rows
from edgevlm.tensors import Float32


class Context:
    """The cache in front of an answer.

    Args:
        decoder: its cache is empty.
        table: embeddings of the vocabulary.
        whole: the prompt must go through in one call, because it sees itself in both directions
            or has an encoder of its own.
    """

    def __init__(self, decoder: Decoder, table: EmbeddingTable, whole: bool) -> None:
        self._decoder = decoder
        self._table = table
        self._whole = whole
        self.owner = 0  # counts who has the cache: another number, another owner
        self._constant: tuple[int, ...] = ()  # tokens whose keys and values lie in the cache

    def constant_part(self, prompt: Prompt) -> tuple[int, ...]:
        """The text before the first picture, where its keys do not depend on what follows."""
        return prompt.texts[0] if prompt.segments and not self._whole else ()

    def take(self) -> int:
        """Give the cache to somebody else, as long as ``owner`` stays what it returns."""
        self._constant = ()
        self.owner += 1
        return self.owner

    def prepare(self, prompt: Prompt) -> float:
        """Keep or compute the keys and values of the text before the first picture.

        It is always computed as a call of its own, so that an answer does not depend on whether
        the cache already held it.

        Returns:
            milliseconds that it took.
        """
        constant, begun = self.constant_part(prompt), time.perf_counter_ns()
        self.owner += 1
        if constant != self._constant or self._decoder.length < len(constant):
            self._decoder.rewind(0)
            self._constant = ()
            if constant:
                self._decoder.append(self._table.rows(constant))
                self._decoder.mark()
            self._constant = constant
        self._decoder.rewind(len(constant))
        return (time.perf_counter_ns() - begun) / 1e6

    def share(self, prompts: Sequence[Rows]) -> tuple[int, float]:
        """Compute the rows that all of ``prompts`` begin with, behind the constant part, once.

        Every prompt keeps at least one row of its own, whose logits its answer begins with.

        Returns:
            how many rows that are, and the milliseconds that it took.
        """
        begun = time.perf_counter_ns()
        first, *others = prompts
        count = min(len(rows) for rows in prompts) - 1
        for rows in others:
            count = _same(first, rows, count)
        if self._whole or not others:
            return 0, 0.0
        for start in range(0, count, PREFILL_CHUNK):
            self._decoder.append(first.part(start, min(start + PREFILL_CHUNK, count)))
        self._decoder.mark()
        return count, (time.perf_counter_ns() - begun) / 1e6

    def back(self, prompt: Prompt, shared: int) -> None:
        """Return to where ``share`` left the cache."""
        self._decoder.rewind(len(self.constant_part(prompt)) + shared)


def _same(one: Rows, other: Rows, most: int) -> int:
    """How many rows both begin with."""
    pairs: list[tuple[Float32, Float32]] = [(one.embeds[:most], other.embeds[:most])]
    if one.deepstack is not None and other.deepstack is not None:
        pairs += zip(one.deepstack[:, :most], other.deepstack[:, :most], strict=True)
    if one.positions is not None and other.positions is not None:
        pairs.append((one.positions[:, :most].T, other.positions[:, :most].T))
    same = most
    for left, right in pairs:
        differing = (left != right).any(axis=1).nonzero()[0]
        same = min(same, int(differing[0]) if len(differing) else most)
    return same
