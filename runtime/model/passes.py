"""Calls of the decoder that answer several positions at once, and how they are taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.rows import Rows
from edgevlm.tensors import Float32

PREFILL_CHUNK = 256  # rows of a prompt between two looks at what may end an answer


class Passes:
    """The calls of one answer.

    A pass computes rows that count (a token that was chosen, and what the grammar forces behind
    it) and drafted rows behind them. Where a row comes out the same in every call (``needed`` 0),
    drafted rows that were right stay. Elsewhere they count as provisional: a choice among logits
    that stand closer than ``needed`` first has everything since the last sure position computed
    again, call by call as without drafts, keys and values included.

    Args:
        decoder: behind the constant part of the prompt.
        table: embeddings of the vocabulary.
        needed: gap between the best two logits that makes a choice in a drafting pass sure.
    """

    def __init__(self, decoder: Decoder, table: EmbeddingTable, needed: float = 0.0) -> None:
        self._decoder = decoder
        self._table = table
        self._needed = needed
        self._logged = needed > 0 or not decoder.rewinds
        self._sure = 0  # up to here, everything was computed as without drafts
        self._calls: list[list[int]] = []  # behind it, the rows that count, as calls
        self._base = 0  # behind the rows that count of the last pass
        self._drafted = 0

    @property
    def room(self) -> int:
        """Rows that may still be drafted: the last position is kept for a call of its own."""
        return self._decoder.capacity - self._decoder.length - 1

    def prompt(
        self,
        rows: Rows,
        tokens: Sequence[int],
        draft: Sequence[int],
        stopped: Callable[[], bool],
    ) -> Float32 | None:
        """Prefill in chunks, ``tokens`` and ``draft`` behind the last of them.

        Args:
            rows: of the prompt.
            tokens: that the answer begins with, whatever the model would say.
            draft: that it may go on with.
            stopped: asked between two chunks.

        Returns:
            logits as ``run`` gives them, perhaps for less of the draft; None if it was stopped.
        """
        decoder, wide = self._decoder, self._decoder.wide
        start = 0
        while wide and len(rows) - start > PREFILL_CHUNK:
            decoder.append(rows.part(start, start + PREFILL_CHUNK))
            start += PREFILL_CHUNK
            if stopped():
                return None
        last = rows.part(start, len(rows))
        if not wide:
            logits = decoder.append(last)
            return self.run(tokens, []) if tokens else logits
        draft = [] if self._logged else draft  # without drafts, this is one call
        behind = [*tokens, *draft]
        logits = decoder.append(last.before(self._table.rows(behind)), 1 + len(draft))
        self._drafted = len(draft)
        self._base = decoder.length - len(draft)
        return logits

    def run(self, tokens: Sequence[int], draft: Sequence[int]) -> Float32:
        """Compute ``tokens`` behind what is there, and ``draft`` behind them.

        Returns:
            float32 ``(1 + len(draft), vocab_size)``: what to say behind ``tokens``, and behind
            every drafted one; valid until the next call.
        """
        decoder = self._decoder
        if self._logged and (draft or self._calls):
            if not self._calls:
                self._sure = decoder.length
                decoder.mark()
            self._calls.append(list(tokens))
        rows = self._table.rows([*tokens, *draft])
        if not decoder.wide:
            for row in range(len(rows) - 1):
                decoder.append(rows[row : row + 1])
            rows = rows[-1:]
        logits = decoder.append(rows, 1 + len(draft))
        self._drafted = len(draft)
        self._base = decoder.length - len(draft)
        return logits

    def doubtful(self, scores: Float32) -> bool:
        """True if these scores, of the last pass, might name another token without drafts."""
        if not self._needed or not self._calls:
            return False
        best, second = np.partition(scores, -2)[-1:-3:-1]
        return not best - second > self._needed

    def settle(self) -> tuple[int, Float32]:
        """Compute everything since the last sure position as it is without drafts.

        Returns:
            how many calls that took, and the last one's logits, ``(1, vocab_size)``.
        """
        self._decoder.rewind(self._sure)
        calls, self._calls = self._calls, []
        for tokens in calls:
            logits = self.run(tokens, [])
        return len(calls), logits

    def right(self, draft: Sequence[int], run: Sequence[int]) -> int:
        """The answer goes on with ``run``: how many of its rows ``draft`` already holds."""
        same = 0
        while same < min(len(draft), len(run)) and draft[same] == run[same]:
            same += 1
        if self._logged:
            if same < len(run):
                return 0  # without drafts, a run is one call
            self._calls.append(list(run))
        self._base += same
        self._drafted -= same
        return same

    def close(self) -> int:
        """Take back the drafted rows that were not right; how many calls that took."""
        if not self._drafted:
            return 0
        self._drafted = 0
        if not self._decoder.rewinds:
            return self.settle()[0]
        self._decoder.rewind(self._base)
        return 0
