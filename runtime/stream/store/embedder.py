"""What a bundle makes of a picture or a text, as one vector of length 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.bundle import open_bundle
from edgevlm.bundle.abilities import require
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.perception import Perception
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.store.vectors import ModelOfVectors
from edgevlm.tensors import Float32


class Embedder:
    """The encoders of a bundle; a language model in it is not loaded.

    Pictures become the embedding that the bundle holds against texts; where it has none, the
    encoder's pooled output, or the mean of its visual tokens: these compare pictures with pictures
    only.

    Args:
        path: of a bundle with a vision encoder.
        backend: registry name.
        threads: intra-op threads; 0 takes the physical cores.

    Raises:
        BundleError: no usable bundle.
        ContractError: it has no vision encoder.
        BackendError: its graph does not load.
    """

    def __init__(self, path: Path, backend: str = "ort-cpu", threads: int = 0) -> None:
        bundle = open_bundle(path)
        require(bundle.manifest, "encode")
        self._manifest = bundle.manifest
        self._encoders = Perception(bundle, open_backend(backend, threads, spin=False))
        self.model = ModelOfVectors(bundle.id, bundle.manifest.name, str(path.absolute()))

    def image(self, image: Any) -> Float32:
        """Of a picture (a path, a PIL image or uint8 RGB), float32 ``(width,)``.

        Raises:
            ImageError: a picture that cannot be taken.
            BackendError: the graph fails.
        """
        return _unit(_pooled(self._encoders.encode(image)))

    def text(self, text: str) -> Float32:
        """Of a text, as it stands, float32 ``(width,)``.

        Raises:
            ContractError: the bundle does not hold texts against pictures.
            ContextOverflow: the text is longer than its context.
        """
        require(self._manifest, "classify")
        return _unit(self._encoders.encode_text([text])[0])

    def close(self) -> None:
        """Release the graphs; may be called twice."""
        self._encoders.close()


def _pooled(encoded: Encoded) -> Float32:
    rows: Float32
    for name in ("embedding", "pooled"):
        if name in encoded.outputs:
            rows = encoded.outputs[name].astype(np.float32)
            break
    else:
        rows = encoded.tokens
    pooled: Float32 = rows.reshape(len(rows), -1).mean(axis=0)
    return pooled


def _unit(vector: Float32) -> Float32:
    unit: Float32 = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
    return unit
