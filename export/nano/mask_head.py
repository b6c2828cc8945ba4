"""nano's mask head: points or a box to a mask at stride 8, in numpy.

A filter is made from what the prompt covers, and the mask is what it finds; a quadratic in the
place lets it say where.

Source: conditional convolutions for masks (CondInst, Tian et al., 2020), section 3, with one layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.masks import BACKGROUND, FOREGROUND, LOWER_RIGHT, UPPER_LEFT
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.layers import Depthwise, Linear, lower_twice, relu, twice
from edgevlm.export.nano.neck import FINE, WIDTH
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Float32

LOOKED = 64  # features that a filter looks at
EMBEDDED = LOOKED + WIDTH
INNER = 256
GEOMETRY = 6  # has a box, centre, size, has points outside
PLACES = 6  # 1, x, y, x^2, y^2, xy
POINT_SIGMA = 0.05  # of a picture's side: how far a point is seen
NOTHING = 1e-3  # added to the weight of a prompt that covers nothing
STRIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskHead:
    """The head: ``embed`` belongs to the encoder, ``apply`` is asked for every prompt."""

    fine: Linear
    cell: Linear
    depthwise: Depthwise
    mix: Linear
    up: Linear
    down: Linear

    @classmethod
    def read(cls, file: TrainedFile) -> MaskHead:
        """As torch names it."""
        return cls(
            fine=Linear.read(file, "mask.fine", FINE, LOOKED, conv=True),
            cell=Linear.read(file, "mask.cell", WIDTH, LOOKED, conv=True),
            depthwise=Depthwise.read(file, "mask.depthwise", LOOKED, 3),
            mix=Linear.read(file, "mask.mix", LOOKED, LOOKED, conv=True),
            up=Linear.read(file, "mask.up", 2 * WIDTH + GEOMETRY, INNER),
            down=Linear.read(file, "mask.down", INNER, LOOKED + PLACES + 1),
        )

    def embed(self, fine: Float32, cells: Float32) -> Float32:
        """``image_embeddings`` without a batch, ``(EMBEDDED, 2 * side, 2 * side)``.

        Args:
            fine: of the encoder, float32 ``(FINE, 2 * side, 2 * side)``.
            cells: float32 ``(WIDTH, side, side)``.
        """
        x = self.fine.over_plane(fine) + twice(self.cell.over_plane(cells))
        x = self.mix.over_plane(relu(self.depthwise.apply(relu(x))))
        return np.concatenate([x, twice(cells)])

    def lower_embed(self, g: GraphBuilder, fine: str, cells: str) -> str:
        """Write ``embed``; both have a batch of 1."""
        near = lower_twice(g, self.cell.lower_over_plane(g, cells), "mask/cell")
        x = g.node("Add", [self.fine.lower_over_plane(g, fine), near], "mask/both")
        x = self.depthwise.lower(g, g.node("Relu", [x], "mask/both"))
        x = self.mix.lower_over_plane(g, g.node("Relu", [x], "mask/depthwise"))
        return g.node("Concat", [x, lower_twice(g, cells, "mask/cells")], "mask", axis=1)

    def apply(
        self, embeddings: Float32, points: Float32, labels: NDArray[np.int64]
    ) -> tuple[Float32, Float32]:
        """Masks of some prompts in one picture.

        Args:
            embeddings: from ``embed``.
            points: float32 ``(prompts, n, 2)``, x and y from 0 to 1.
            labels: int64 ``(prompts, n)``, as in ``edgevlm.bundle.masks``.

        Returns:
            logits ``(prompts, side, side)``, and the overlap that is expected ``(prompts,)``.
        """
        side = embeddings.shape[-1]
        rows = embeddings.reshape(EMBEDDED, -1)
        x, y = centres(side)
        kinds = (labels == kind for kind in (FOREGROUND, BACKGROUND, UPPER_LEFT, LOWER_RIGHT))
        shown, hidden, first, second = (kind[..., None].astype(np.float32) for kind in kinds)
        away = (points[..., :1] - x) ** 2 + (points[..., 1:] - y) ** 2
        near = np.exp(away * np.float32(-1 / (2 * POINT_SIGMA**2)))
        inside, outside = (near * shown).sum(1), (near * hidden).sum(1)
        corner, other = (points * first).sum(1), (points * second).sum(1)
        boxed, negative = first.max(1), hidden.max(1)
        within = (x >= corner[:, :1]) & (x <= other[:, :1])
        within &= (y >= corner[:, 1:]) & (y <= other[:, 1:])
        weight = boxed * within + (1 - boxed) * inside
        means = [
            w @ rows[LOOKED:].T / (w.sum(1, keepdims=True) + np.float32(NOTHING))
            for w in (weight, outside)
        ]
        point = (points * shown).sum(1) / np.maximum(shown.sum(1), 1)
        centre = (corner + other) / 2 * boxed + point * (1 - boxed)
        known = np.concatenate([*means, boxed, centre, (other - corner) * boxed, negative], axis=1)
        made = self.down.apply(relu(self.up.apply(known.astype(np.float32))))
        look, where, score = np.split(made, [LOOKED, LOOKED + PLACES], axis=1)
        logits = look @ rows[:LOOKED] / np.float32(LOOKED**0.5) + where @ places(side)
        chance = 1 / (1 + np.exp(-score[:, 0]))
        return logits.reshape(-1, side, side).astype(np.float32), chance.astype(np.float32)


def centres(side: int) -> tuple[Float32, Float32]:
    """X and y of every place, float32 ``(side * side,)``, from 0 to 1."""
    line = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.ascontiguousarray(x.ravel()), np.ascontiguousarray(y.ravel())


def places(side: int) -> Float32:
    """What a filter can say about places, float32 ``(PLACES, side * side)``."""
    x, y = centres(side)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])
