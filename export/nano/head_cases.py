"""The parity probe of nano's heads that are graphs of their own: texts, points and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from edgevlm.bundle.masks import GRAPH as MASKS
from edgevlm.export.nano.heads import Heads
from edgevlm.export.nano.mask_head import STRIDE
from edgevlm.export.nano.text_part import NAME as TEXT
from edgevlm.export.nano.text_part import TextPart
from edgevlm.export.probe import GraphCase
from edgevlm.tensors import Array, Float32

TEXTS = ("cat", "wooden table", "pressure gauge")
# A point alone, one inside and one outside, and a box: from 0 to 1 of the encoder's input.
POINTS = np.array(
    [[[0.41, 0.55], [0, 0]], [[0.81, 0.23], [0.13, 0.91]], [[0.17, 0.31], [0.66, 0.83]]], np.float32
)
LABELS = np.array([[1, -1], [1, 0], [2, 3]], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadCases:
    """What the graphs take, and what plain numpy makes of it.

    Args:
        heads: as they were trained.
        tokenizer: of the language model.
        table: its word embeddings, float32 ``(vocab, hidden)``.
    """

    heads: Heads
    tokenizer: Tokenizer
    table: Float32

    def of(self, outputs: Mapping[str, Array]) -> Iterator[GraphCase]:
        """The cases, from what the encoder gave of the probe's picture."""
        text = TextPart(head=self.heads.semantic)
        given, found = text.reference(self.tokenizer, self.table, TEXTS)
        yield GraphCase(graph=TEXT, inputs=given, outputs=found)
        (embeddings,) = outputs["image_embeddings"]
        size = np.float32(embeddings.shape[-1] * STRIDE)
        masks, scores = self.heads.mask.apply(embeddings, POINTS, LABELS)
        yield GraphCase(
            graph=MASKS,
            inputs={"points": POINTS * size, "labels": LABELS},
            outputs={"masks": masks[:, None], "scores": scores[:, None]},
        )
