"""nano's semantic head: cells, whole pictures and texts in one space, in numpy and as nodes.

The text tower is a projection of the language model's own word embeddings: it has no table of its
own. Every embedding has length 1.

Source: SAM-CLIP (Wang et al., 2023), section 3.1, "Head_CLIP".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.layers import Linear, lower_unit, relu, unit
from edgevlm.export.nano.neck import WIDTH
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Float32

HIDDEN = 576  # of the language model
ALIGNED = 256  # features of the space
NOTHING = 1e-3  # added to the sum of weights, so that a picture of nothing divides by something


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Semantic:
    """The head.

    Args:
        cell: of every cell.
        shown: how much a cell shows a thing.
        picture: of the mean of the cells that do.
        text_up: of the mean of word embeddings.
        text_down: behind a ReLU.
        logit_scale: of cosines, positive.
    """

    cell: Linear
    shown: Linear
    picture: Linear
    text_up: Linear
    text_down: Linear
    logit_scale: float

    @classmethod
    def read(cls, file: TrainedFile) -> Semantic:
        """As torch names it."""
        return cls(
            cell=Linear.read(file, "semantic.cell", WIDTH, ALIGNED),
            shown=Linear.read(file, "semantic.shown", WIDTH, 1),
            picture=Linear.read(file, "semantic.picture", WIDTH, ALIGNED),
            text_up=Linear.read(file, "semantic.text_up", HIDDEN, HIDDEN),
            text_down=Linear.read(file, "semantic.text_down", HIDDEN, ALIGNED),
            logit_scale=float(np.exp(file.take("semantic.scale").item())),
        )

    def cells(self, rows: Float32) -> Float32:
        """``(cells, WIDTH)`` to ``(cells, ALIGNED)``."""
        return unit(self.cell.apply(rows))

    def chance(self, rows: Float32) -> Float32:
        """Of a thing in every cell ``(cells, WIDTH)``, ``(1, cells, 1)``."""
        found = 1 / (1 + np.exp(-self.shown.apply(rows)[None]))
        return found.astype(np.float32)

    def pictures(self, rows: Float32) -> Float32:
        """The cells ``(cells, WIDTH)`` of a picture to ``(1, ALIGNED)``."""
        weight = 1 / (1 + np.exp(-self.shown.apply(rows)))
        pooled = (weight * rows).sum(0, keepdims=True) / (weight.sum() + np.float32(NOTHING))
        return unit(self.picture.apply(pooled))

    def texts(self, words: Float32) -> Float32:
        """Mean word embeddings ``(texts, HIDDEN)`` to ``(texts, ALIGNED)``."""
        return unit(self.text_down.apply(relu(self.text_up.apply(words))))

    def lower_pictures(self, g: GraphBuilder, rows: str) -> tuple[str, str, str]:
        """Write ``cells``, as ``(1, cells, ALIGNED)``, ``pictures`` and ``chance``."""
        cells = lower_unit(g, self.cell.lower(g, rows), "semantic/cell")
        first = g.constant("semantic.first", np.array([0], np.int64))
        embeds = g.node("Unsqueeze", [cells, first], "semantic/cell")
        weight = g.node("Sigmoid", [self.shown.lower(g, rows)], "semantic/shown")
        turned = g.node("Transpose", [weight], "semantic/shown", perm=[1, 0])
        total = g.node("ReduceSum", [weight, first], "semantic/shown", keepdims=1)
        nothing = g.constant("semantic.nothing", np.float32(NOTHING))
        total = g.node("Add", [total, nothing], "semantic/shown/total")
        pooled = g.node("MatMul", [turned, rows], "semantic/pool")
        pooled = g.node("Div", [pooled, total], "semantic/pool")
        picture = lower_unit(g, self.picture.lower(g, pooled), "semantic/picture")
        return embeds, picture, g.node("Unsqueeze", [weight, first], "semantic/shown")

    def lower_texts(self, g: GraphBuilder, words: str) -> str:
        """Write ``texts``."""
        hidden = g.node("Relu", [self.text_up.lower(g, words)], "semantic/text")
        return lower_unit(g, self.text_down.lower(g, hidden), "semantic/text")
