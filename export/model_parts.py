"""What a recipe gathers from a checkpoint, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tokenizers import Tokenizer

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.manifest import (
    GraphEntry,
    KVLayout,
    Precision,
    VisualTokens,
    WeightEntry,
)
from edgevlm.bundle.prompt import PromptSpec
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one part of a model wrote, for the manifest.

    Args:
        graphs: by the name that the runtime asks for.
        weights: where each of their weights lies.
    """

    graphs: Mapping[str, GraphEntry]
    weights: Mapping[str, WeightEntry] = field(default_factory=dict)


class GraphPart(Protocol):
    """Something that becomes one or more graphs: an encoder, a decoder, a head."""

    @property
    def steps(self) -> int:
        """How often ``lower`` tells the progress."""
        ...

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write the graphs and their data into ``folder``."""
        ...


class SharingPart(Protocol):
    """A graph over weights that other parts have written: it is lowered behind them."""

    @property
    def steps(self) -> int:
        """How often ``lower`` tells the progress."""
        ...

    @property
    def sections(self) -> Mapping[str, Any]:
        """Sections of the manifest that come with the graph."""
        ...

    def lower(
        self, folder: Path, weights: Mapping[str, WeightEntry], progress: Progress
    ) -> Lowered:
        """Write the graph into ``folder``, over weights that lie there already."""
        ...


class Reference(Protocol):
    """The source model, computed without the exported graphs."""

    def write(self, root: Path, progress: Progress) -> None:
        """Write ``probe/`` of a staged bundle, whose other files are all there.

        Raises:
            CheckpointError: the source model does not run, or gives values that are not finite.
        """
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
        calibrate: round 4-bit weights of small decoders with an eye on a text; minutes, where
            rounding to nearest takes seconds.
        group: values of a row that share a scale in 4 bits: 32, 64 or 128.
        repair_budget: how much each graph that misses a gate may grow to keep it, as a share of
            its size; 0 repairs nothing.
        overrides: glob over canonical weight names -> precision, before the defaults.
        adapter: folder of a peft adapter to merge.
        weights: folder of what nano was trained to, in place of what comes with edgevlm.
        check_images: folder of pictures whose parity is measured too.
        resume: keep finished stages, and take those of an earlier try.
        reference: checkpoint that imported graphs are compared with.
        layout: what is written: a bundle, or a folder in the layout of onnx-community.
    """

    precision: Precision | None = None
    tokens: int | None = None
    compressor: str | None = None
    image_size: int | None = None
    max_context: int | None = None
    allow_drift: bool = False
    force: bool = False
    symmetric: bool = False
    calibrate: bool = True
    group: int = 32
    repair_budget: float = 0.25
    overrides: Mapping[str, Precision] = field(default_factory=dict)
    adapter: Path | None = None
    weights: Path | None = None
    check_images: Path | None = None
    resume: bool = False
    reference: Path | None = None
    layout: Literal["bundle", "hf"] = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """One model, ready to be lowered.

    Args:
        name: shown to people.
        family: transformers' ``model_type``, or ``nano``.
        license: SPDX identifier, or the name of the terms.
        precision: the default one.
        weight_files: what the source hash covers.
        spec: shape of a decoder-only language model; None for an encoder.
        weights: of the decoder.
        kv: cache of a decoder that is one of ``parts``; of the others it follows from ``spec``.
        tokenizer: of the model.
        chat_template: jinja2 source, or None.
        prompt: prompt section of the manifest.
        image: how pictures reach the encoder; None for a text model.
        visual_tokens: of one picture.
        parts: graphs besides the decoder.
        sharing: graphs over the weights of the others.
        reference: the source model; None takes the decoder in plain numpy.
        extra_files: further text files, by name inside the bundle.
        licenses: licence texts by file name, for ``LICENSES/``.
        sections: further sections of the manifest, by name.
        held: glob over canonical weight names -> precision, in an export to int4: what such a
            model is known not to bear.
        parameters: weights in all parts together, for the estimate of disk and memory.
    """

    name: str
    family: str
    license: str
    precision: Precision
    weight_files: tuple[Path, ...]
    spec: DecoderSpec | None = None
    weights: WeightSource | None = None
    kv: KVLayout | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    prompt: PromptSpec | None = None
    image: ImageSpec | None = None
    visual_tokens: VisualTokens | None = None
    parts: tuple[GraphPart, ...] = ()
    sharing: tuple[SharingPart, ...] = ()
    reference: Reference | None = None
    extra_files: Mapping[str, str] = field(default_factory=dict)
    licenses: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Any] = field(default_factory=dict)
    held: Mapping[str, Precision] = field(default_factory=dict)
    parameters: int = 0
