"""Points and boxes in a picture, and the masks that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle import Bundle
from edgevlm.bundle.masks import GRAPH, MaskSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.mask_prompts import prompt_arrays
from edgevlm.runtime.model.pictures.placement import placed_by
from edgevlm.runtime.model.vision import Encoded
from edgevlm.tensors import Array, Float32

PROMPTS_AT_ONCE = 16  # bounds the activations of many prompts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
    """What prompts mean, in pixels of the picture as it came.

    Args:
        masks: bool ``(prompts, candidates, height, width)``.
        scores: float32 ``(prompts, candidates)``, the overlap with the object that the model
            expects of each mask.
        logits: float32 ``(prompts, candidates, mask_size, mask_size)`` over the encoder's input,
            as the graph gives them.
    """

    masks: NDArray[np.bool_]
    scores: Float32
    logits: Float32

    def best(self) -> NDArray[np.bool_]:
        """The mask with the best score of every prompt, bool ``(prompts, height, width)``."""
        chosen: NDArray[np.bool_] = self.masks[
            np.arange(len(self.scores)), self.scores.argmax(axis=1)
        ]
        return chosen


class MaskDecoder:
    """The bundle's mask decoder, loaded.

    Args:
        bundle: the bundle.
        backend: loads the graph.

    Raises:
        ContractError: the bundle has no mask decoder.
        BackendError: the graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        if manifest.masks is None:
            raise ContractError(f"{manifest.name} has no mask decoder")
        self._spec: MaskSpec = manifest.masks
        self._image = manifest.image
        self._graph: Graph = backend.load(bundle.path(manifest.graphs[GRAPH].file))

    def decode(
        self,
        encoded: Encoded,
        points: Sequence[Any] | Array | None,
        labels: Sequence[Any] | Array | None,
        boxes: Sequence[Any] | Array | None,
        *,
        several: bool,
    ) -> Masks:
        """Masks of every prompt; arguments as in ``Vlm.masks``.

        Raises:
            ContractError: prompts that do not fit.
        """
        place, fit = placed_by(self._image, encoded.source)
        feeds = prompt_arrays(points, labels, boxes, place)
        logits, scores = self.run(encoded.outputs["image_embeddings"], *feeds)
        chosen = slice(1, None) if several and self._spec.candidates > 1 else slice(0, 1)
        logits, scores = logits[:, chosen], scores[:, chosen]
        size, source = (fit.height, fit.width), encoded.source
        matrices = place.resampling(self._spec.mask_size, size, source)
        return Masks(masks=self._enlarged(logits, *matrices), scores=scores, logits=logits)

    def run(
        self, image_embeddings: Float32, points: Float32, labels: NDArray[np.int64]
    ) -> tuple[Float32, Float32]:
        """The graph, some prompts at a time: logits and scores of all candidates."""
        parts = [
            self._graph.run(
                {
                    "image_embeddings": image_embeddings,
                    "points": points[n : n + PROMPTS_AT_ONCE],
                    "labels": labels[n : n + PROMPTS_AT_ONCE],
                }
            )
            for n in range(0, len(points), PROMPTS_AT_ONCE)
        ]
        masks, scores = (np.concatenate([p[name] for p in parts]) for name in ("masks", "scores"))
        return masks, scores

    def _enlarged(self, logits: Float32, down: Float32, across: Float32) -> NDArray[np.bool_]:
        """To the picture, then inside or not."""
        found = np.empty((*logits.shape[:2], len(down), len(across)), np.bool_)
        for place in np.ndindex(*logits.shape[:2]):  # one at a time: a picture may be large
            found[place] = down @ logits[place] @ across.T > self._spec.threshold
        return found

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._graph.close()
