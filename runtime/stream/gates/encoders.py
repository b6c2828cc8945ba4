"""What gates look through: the encoder of the model that answers, or a bundle of their own."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle import Manifest
from edgevlm.bundle.abilities import gives
from edgevlm.config import EngineSection
from edgevlm.errors import ContractError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.gates.view import View
from edgevlm.tensors import Float32

OF_PATCHES = ("features", "patch_embeds", "visual_tokens")  # the first that there is


class Encoders:
    """Bundles that gates bring themselves, each loaded once.

    Args:
        own: manifest of the model that answers; None: there is none.
        engine: its settings; threads and checks are the same for all.
        spin: as in ``load``.
    """

    def __init__(
        self, own: Manifest | None = None, engine: EngineSection | None = None, spin: bool = False
    ) -> None:
        self._own = own
        self._engine = engine or EngineSection()
        self._spin = spin
        self._loaded: dict[tuple[str, str], Vlm] = {}

    def load(self, bundle: str, backend: str) -> Vlm:
        """A bundle, loaded by the first gate that asks for it.

        Raises:
            BundleError: no usable bundle.
            BackendError: no usable backend.
        """
        key = bundle, backend
        if key not in self._loaded:
            self._loaded[key] = load(
                bundle,
                backend=backend,
                threads=self._engine.threads,
                spin=self._spin,
                verify=self._engine.verify,
            )
        return self._loaded[key]

    def features(self, bundle: str | None, backend: str) -> Features:
        """An encoder of patches.

        Raises:
            BundleError, BackendError: as ``load``.
            ContractError: it gives nothing that belongs to a patch.
        """
        model = None if bundle is None else self.load(bundle, backend)
        manifest = self._own if model is None else model.bundle.manifest
        there = [name for name in OF_PATCHES if manifest and gives(manifest, name)]
        if manifest is None or not there:
            raise ContractError(
                f"{manifest.name if manifest else 'what answers'} has no encoder with features of "
                'patches, which this gate compares; give the gate a bundle = "..." with one'
            )
        return Features(model, there[0], gives(manifest, "embedding"))

    def close(self) -> None:
        """Release the bundles; may be called twice."""
        for model in self._loaded.values():
            model.close()
        self._loaded.clear()


class Features:
    """What one encoder sees in frames.

    Args:
        model: looks; None: the model that answers.
        output: of its vision graph, with a row for every patch.
        embeds: it has an embedding of the whole picture, too.
    """

    def __init__(self, model: Vlm | None, output: str, embeds: bool) -> None:
        self._model = model
        self._output = output
        self._embeds = embeds

    def patches(self, view: View) -> Float32:
        """Features of the patches, ``(patches, width)``.

        Raises:
            SourceError: the frame's pixels cannot be read.
            BackendError: the engine failed.
        """
        return _rows(self._seen(view).outputs[self._output].astype(np.float32, copy=False))

    def whole(self, view: View) -> Float32:
        """Features of the whole picture, ``(width,)``; errors as in ``patches``."""
        if self._embeds:
            embedding: Float32 = self._seen(view).outputs["embedding"].reshape(-1)
            return embedding
        mean: Float32 = self.patches(view).mean(axis=0)
        return mean

    def _seen(self, view: View) -> Encoded:
        if self._model is None:
            return view.features()
        return view.seen_by(self._model)


def _rows(features: Float32) -> Float32:
    """Rows of patches, whatever lies around them: ``(1, C, H, W)`` or ``(..., N, C)``."""
    if features.ndim == 4 and features.shape[0] == 1:
        rows: Float32 = np.moveaxis(features[0], 0, -1).reshape(-1, features.shape[1])
        return rows
    return features.reshape(-1, features.shape[-1])


def spread(rows: Float32) -> float:
    """Mean squared distance of rows to their mean: how much patches of one picture differ."""
    return float(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())
