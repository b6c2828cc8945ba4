"""What a recipe gathers from a checkpoint, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import GraphEntry, ImageSpec, Precision, PromptSpec, VisualTokens
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.tensors import Array


class VisionPart(Protocol):
    """A vision encoder with its connector."""

    def lower(self, folder: Path) -> GraphEntry:
        """Write the graph and its data into ``folder``."""
        ...

    def reference(self, image_rgb: NDArray[np.uint8]) -> dict[str, Array]:
        """The graph's outputs for one input picture, computed without the graph."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the user chose.

    Args:
        precision: None takes the recipe's default.
        tokens: visual tokens a picture; None takes the recipe's default.
        compressor: ``name`` or ``name:key=value,...``; None takes the recipe's default.
        image_size: height and width of the encoder's input; None takes the recipe's default.
        max_context: tokens that the KV cache holds; None takes the smaller of 2048 and what the
            model was trained for.
        allow_drift: write the bundle even if it misses a parity gate.
        force: replace what is at the target.
        symmetric: int4 without zero points (TensorRT's kind).
        overrides: glob over canonical weight names -> precision, before the defaults.
    """

    precision: Precision | None = None
    tokens: int | None = None
    compressor: str | None = None
    image_size: int | None = None
    max_context: int | None = None
    allow_drift: bool = False
    force: bool = False
    symmetric: bool = False
    overrides: Mapping[str, Precision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """One model, ready to be lowered.

    Args:
        name: shown to people.
        family: transformers' ``model_type``, or ``nano``.
        license: SPDX identifier, or the name of the terms.
        spec: shape of the decoder.
        weights: of the decoder.
        tokenizer: of the model.
        chat_template: jinja2 source, or None.
        prompt: prompt section of the manifest.
        precision: the default one.
        weight_files: what the source hash covers.
        vision: encoder and connector; None for a text model.
        image: of the encoder's input.
        visual_tokens: of one picture.
        extra_files: further text files, by name inside the bundle.
        licenses: licence texts by file name, for ``LICENSES/``.
    """

    name: str
    family: str
    license: str
    spec: DecoderSpec
    weights: WeightSource
    tokenizer: Tokenizer
    chat_template: str | None
    prompt: PromptSpec
    precision: Precision
    weight_files: tuple[Path, ...]
    vision: VisionPart | None = None
    image: ImageSpec | None = None
    visual_tokens: VisualTokens | None = None
    extra_files: Mapping[str, str] = field(default_factory=dict)
    licenses: Mapping[str, str] = field(default_factory=dict)
