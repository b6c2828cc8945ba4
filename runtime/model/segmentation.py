"""Which label each part of a picture shows, from patch embeddings held against texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.text import TextSpec
from edgevlm.runtime.model.pictures.placement import placed_by
from edgevlm.runtime.model.vision import Encoded
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """A label for every pixel of the picture as it came.

    Args:
        labels: as they were asked for.
        label_map: int64 ``(height, width)``, the number of each pixel's best label.
        logits: float32 ``(labels, side, side)`` over the patches of the encoder's input, of which
            the picture may fill a part.
    """

    labels: tuple[str, ...]
    label_map: NDArray[np.int64]
    logits: Float32

    def mask(self, label: str) -> NDArray[np.bool_]:
        """Where a label is the best one, bool ``(height, width)``.

        Raises:
            ValueError: nobody asked for this label.
        """
        found: NDArray[np.bool_] = self.label_map == self.labels.index(label)
        return found

    def shares(self) -> dict[str, float]:
        """The part of the picture that each label covers, in [0, 1]."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.labels))
        return {
            label: float(count) / self.label_map.size
            for label, count in zip(self.labels, counts, strict=True)
        }


def segmented(
    encoded: Encoded,
    text_embeds: Float32,
    labels: tuple[str, ...],
    spec: TextSpec,
    image: ImageSpec | None,
) -> Segmentation:
    """Hold every patch against every label, and resample as SAM resamples its masks.

    Args:
        encoded: gives ``patch_embeds`` ``(1, side * side, width)``, of length 1.
        text_embeds: float32 ``(labels, width)``, of length 1.
        labels: their names.
        spec: the model's scale and bias.
        image: how pictures reach the encoder.

    Raises:
        ContractError: pictures reach it in tiles.
    """
    patches = encoded.outputs["patch_embeds"][0]
    side = math.isqrt(len(patches))
    scores = np.float32(spec.logit_scale) * (text_embeds @ patches.T) + np.float32(spec.logit_bias)
    logits = scores.astype(np.float32).reshape(len(labels), side, side)
    place, fit = placed_by(image, encoded.source)
    down, across = place.resampling(side, (fit.height, fit.width), encoded.source)
    best, label_map = np.full(encoded.source, -np.inf, np.float32), np.zeros(encoded.source, int)
    for number, grid in enumerate(logits):  # one at a time: a large picture has many pixels
        fine = down @ grid @ across.T
        better = fine > best
        best[better] = fine[better]
        label_map[better] = number
    return Segmentation(labels=labels, label_map=label_map, logits=logits)
