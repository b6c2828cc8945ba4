"""Put a prompt together, row by row: text, pictures, and what comes with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.positions import mrope_positions
from edgevlm.runtime.model.prompt import Prompt
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.vision import Encoded, Segment
from edgevlm.tensors import Float32


class RowsBuilder:
    """Collects the rows of one prompt.

    Args:
        spec: shape of the decoder; says whether rows need positions or deepstack features.
        start: rotary position of the first row.
    """

    def __init__(self, spec: DecoderSpec | Seq2SeqSpec, start: int) -> None:
        self._spec = spec
        self._start = start
        self._embeds: list[Float32] = [np.zeros((0, spec.hidden_size), np.float32)]
        self._deepstack: list[Float32] = []
        self._pieces: list[int | tuple[int, int]] = []

    def text(self, rows: Float32) -> None:
        """Append embeddings of text, float32 ``(tokens, hidden_size)``."""
        self._append(rows, None)
        self._pieces.append(len(rows))

    def picture(self, segment: Segment) -> None:
        """Append one visual segment."""
        self._append(segment.rows, segment.deepstack)
        self._pieces.append(segment.grid if segment.grid is not None else len(segment.rows))

    def prompt(
        self,
        first: Sequence[int],
        prompt: Prompt,
        pictures: Sequence[Encoded],
        table: EmbeddingTable,
    ) -> None:
        """Append a prompt.

        Args:
            first: of its first text, what is to be appended.
            prompt: the rest comes from there.
            pictures: in its slots.
            table: embeddings of tokens.
        """
        self.text(table.rows(first))
        for (n, m), text in zip(prompt.segments, prompt.texts[1:], strict=True):
            self.picture(pictures[n].segments[m])
            self.text(table.rows(text))

    def _append(self, rows: Float32, deepstack: Float32 | None) -> None:
        self._embeds.append(rows)
        if levels := self._spec.deepstack_levels:
            shape = (levels, len(rows), self._spec.hidden_size)
            self._deepstack.append(np.zeros(shape, np.float32) if deepstack is None else deepstack)

    def rows(self) -> Rows:
        """Everything appended so far."""
        positions = None
        if self._spec.mrope_section is not None:
            positions = mrope_positions(self._start, self._pieces)
        return Rows(
            embeds=np.concatenate(self._embeds),
            deepstack=np.concatenate(self._deepstack, axis=1) if self._deepstack else None,
            positions=positions,
        )
