"""A loaded bundle behind something that meets a stream's questions in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.bundle.provenance import ParitySummary
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.tensors import Float32


class Wrapped:
    """All of a stream's model but its answers.

    Args:
        model: the bundle; closed with this.
    """

    def __init__(self, model: Vlm) -> None:
        self._model = model

    @property
    def bundle(self) -> Bundle:
        """What it was loaded from."""
        return self._model.bundle

    @property
    def backend(self) -> Backend:
        """What runs its graphs."""
        return self._model.backend

    @property
    def parity(self) -> ParitySummary | None:
        """The certificate of the graphs that it runs."""
        return self._model.parity

    @property
    def missed(self) -> Missed | None:
        """The backend in whose place this one answers."""
        return self._model.missed

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One pass of the vision encoder, for gates."""
        return self._model.encode(image, among)

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """As ``Vlm.relevance``."""
        return self._model.relevance(frames, question)

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """As ``Vlm.encode_text``."""
        return self._model.encode_text(texts)

    def close(self) -> None:
        """Release the bundle; may be called twice."""
        self._model.close()
