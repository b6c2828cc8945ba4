"""One picture through the vision encoder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle import Bundle
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.preprocess import fit_image
from edgevlm.tensors import Array, Float32

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """What one encoder pass gives.

    Args:
        tokens: visual tokens in the language model's space, float32 ``(count, hidden_size)``.
        outputs: every other output of the graph by name, such as ``features``.
        labels: class names with probabilities in [0, 1], best first; empty without a class head.
        preprocess_ms: resizing.
        encode_ms: the graph.
    """

    tokens: Float32
    outputs: dict[str, Array] = field(default_factory=dict)
    labels: tuple[tuple[str, float], ...] = ()
    preprocess_ms: float = 0.0
    encode_ms: float = 0.0


class VisionEncoder:
    """The bundle's vision graph, loaded.

    Args:
        bundle: the bundle.
        backend: loads the graph.
    """

    LABELS = 10

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        if manifest.image is None:
            raise ContractError(f"{manifest.name} has no vision encoder: it takes text only")
        self._spec = manifest.image
        self._graph = backend.load(bundle.path(manifest.graphs["vision"].file))
        self._rule = manifest.prompt.labels
        self._names: list[str] = bundle.read_json(self._rule.file) if self._rule else []

    def encode(self, image_rgb: UInt8) -> Encoded:
        """Encode one picture, uint8 RGB ``(height, width, 3)``."""
        begun = time.perf_counter_ns()
        pixels = fit_image(image_rgb, self._spec)
        fitted = time.perf_counter_ns()
        outputs = self._graph.run({"image": pixels})
        done = time.perf_counter_ns()
        return Encoded(
            tokens=outputs.pop("visual_tokens"),
            labels=self._label(outputs),
            outputs=outputs,
            preprocess_ms=(fitted - begun) / 1e6,
            encode_ms=(done - fitted) / 1e6,
        )

    def _label(self, outputs: dict[str, Array]) -> tuple[tuple[str, float], ...]:
        if self._rule is None:
            return ()
        scores = outputs[self._rule.output].reshape(-1)
        best = np.argsort(-scores, kind="stable")[: self.LABELS]
        return tuple((self._names[i], float(scores[i])) for i in best)

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._graph.close()
