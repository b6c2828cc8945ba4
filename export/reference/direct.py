"""The reference of models that are computed in plain numpy: text models and nano."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.probe import GraphCase, probe_texts, write_probe
from edgevlm.export.progress import Progress
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DirectReference:
    """Decoder, and where there is one the vision encoder, without any graph.

    Args:
        spec: shape of the decoder.
        weights: of the decoder.
        tokenizer: of the probe's texts.
        vision: gives the reference outputs of the vision encoder by name, ``visual_tokens``
            among them; None for a text model.
        image_size: height and width of the encoder's input.
        visual_rows: of ``visual_tokens``, those that reach the decoder.
        heads: gives the cases of further graphs, from what the encoder gave.
    """

    spec: DecoderSpec
    weights: WeightSource
    tokenizer: Tokenizer
    vision: Callable[[NDArray[np.uint8]], dict[str, Array]] | None = None
    image_size: tuple[int, int] | None = None
    visual_rows: slice = field(default_factory=lambda: slice(None))
    heads: Callable[[Mapping[str, Array]], Iterable[GraphCase]] = lambda _: ()

    def write(self, root: Path, progress: Progress) -> None:
        """Write ``probe/``."""
        write_probe(
            root / "probe",
            probe_texts(self.tokenizer, self.spec.vocab_size),
            NumpyDecoder(self.spec, self.weights),
            self.vision,
            self.image_size,
            progress,
            self.visual_rows,
            self.heads,
        )
