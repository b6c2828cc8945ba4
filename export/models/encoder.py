"""What one family of encoders must say of itself: a vision tower, perhaps a text tower, no decoder.

A family is one file: subclass ``EncoderFamily``, fill in the names and override what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.bundle.text import TextSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.hf_config import full_config
from edgevlm.export.models.image_config import normalisation, resample
from edgevlm.export.models.square_picture import square_fit
from edgevlm.export.models.vlm import all_tiles, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.reference.source_model import TransformersReference
from edgevlm.export.towers.writer import Activation
from edgevlm.export.vision_part import TowerOutputs, VisionGraph
from edgevlm.tensors import Array

REFERENCE = "edgevlm.export.reference.transformers_encoder"
Build = Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class TextSide(NamedTuple):
    """The text encoder of a family: its section of the manifest, and what writes its graph."""

    spec: TextSpec
    build: Build


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFamily:
    """An encoder of transformers, for pictures and perhaps for texts.

    The vision graph's outputs are among ``embedding`` ``(batch, width)``, comparable with texts and
    of length 1, ``pooled`` ``(batch, hidden)`` and ``features`` ``(batch, rows, hidden)``.
    """

    model_type: str
    # The image processor's class, and what it does where its settings do not say: mean and
    # deviation (see image_config), and whether it cuts the centre out.
    follows: ClassVar[str]
    norm_kind: ClassVar[str] = "standard"
    crops: ClassVar[bool] = False
    # The encoder fits its positions to whatever size the image processor makes.
    any_size: ClassVar[bool] = False

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read everything that the export needs.

        Raises:
            CheckpointError: a checkpoint that cannot be read or does not hold together.
            ConfigError: options that do not fit this family.
        """
        refuse_language_options(self.model_type, options)
        config = full_config(checkpoint.folder)
        if not checkpoint.processor:
            raise CheckpointError(
                f"{checkpoint.folder} has neither preprocessor_config.json nor an image processor "
                "in processor_config.json; copy the one of the model it was tuned from"
            )
        image = self.image(checkpoint, config, options)
        text = self.text(checkpoint, config)
        parts = [VisionGraph(self.vision(checkpoint, config, image))]
        if text is not None:
            parts.append(VisionGraph(text.build, "text"))
        return ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            precision="fp32",
            weight_files=checkpoint.weight_files,
            tokenizer=None if text is None else checkpoint.tokenizer,
            image=image,
            parts=tuple(parts),
            reference=TransformersReference(
                folder=checkpoint.folder, module=REFERENCE, check_images=options.check_images
            ),
            licenses=checkpoint.licenses,
            sections={} if text is None else {"text": text.spec},
            parameters=checkpoint.parameters,
        )

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """One square picture, as the image processor makes it.

        Raises:
            CheckpointError: of another size than the encoder takes, and nobody chose it.
            ConfigError: a chosen size that holds no whole patches.
        """
        vision, chosen = vision_config(config), options.image_size
        size, patch = square(vision, "image_size"), square(vision, "patch_size")
        fit = square_fit(checkpoint.processor, size, self.crops, chosen, patch)
        if chosen is None and fit.height != size and not self.any_size:
            raise CheckpointError(
                f"{checkpoint.folder}: the image processor makes {fit.height} pixels and the "
                f"encoder takes {size}; say which with --image-size"
            )
        return ImageSpec(
            policy=fit, resample=resample(checkpoint.processor, "bicubic"), follows=self.follows
        )

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], image: ImageSpec) -> Build:
        """What writes the vision graph."""
        raise NotImplementedError

    def text(
        self,
        checkpoint: Checkpoint,  # noqa: ARG002
        config: Mapping[str, Any],  # noqa: ARG002
    ) -> TextSide | None:
        """The text encoder; None where there is none."""
        return None

    def reference_model(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> Any:
        """The source model in float32, as the class that the configuration names."""
        from edgevlm.export.reference.pretrained import load_pretrained

        named = config.get("architectures") or ["AutoModel"]
        return load_pretrained(str(named[0]), checkpoint.folder)

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """A case's picture as the source model takes it."""
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        return {"pixel_values": normalized(all_tiles(case), mean, std)}

    def reference_outputs(
        self, model: Any, inputs: Mapping[str, Any], texts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the source model gives, as tensors by stage: ``<graph>.<output>``."""
        raise NotImplementedError


def refuse_language_options(model_type: str, options: ExportOptions) -> None:
    """Raise ConfigError for every option that is about a language model."""
    chosen = {
        "--tokens": options.tokens,
        "--compressor": options.compressor,
        "--max-context": options.max_context,
        "--adapter": options.adapter,
    }
    if odd := [flag for flag, value in chosen.items() if value is not None]:
        raise ConfigError(f"{', '.join(odd)}: {model_type} is an encoder without a language model")


def activation(config: Mapping[str, Any]) -> Activation:
    """The non-linearity that a configuration names.

    Raises:
        CheckpointError: none that is written here.
    """
    name = str(config.get("hidden_act"))
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"activation {name!r} is not supported, only {', '.join(map(repr, _ACTIVATIONS))}"
        )
    return _ACTIVATIONS[name]


def vision_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The vision tower's part of a configuration, which may be all of it."""
    found: Mapping[str, Any] = config.get("vision_config", config)
    return found


def square(config: Mapping[str, Any], key: str) -> int:
    """A size in pixels that is the same in both directions.

    Raises:
        CheckpointError: it is not.
    """
    value = config[key]
    sides = {int(v) for v in value} if isinstance(value, list | tuple) else {int(value)}
    if len(sides) != 1:
        raise CheckpointError(f"{key} is {value}; only squares are supported")
    return sides.pop()
