"""Florence-2: DaViT, one projection, and a BART that reads pictures and tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from pydantic import ValidationError

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.bundle.probe_case import GREEDY_STEPS, ProbeCase
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint, View, reason
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.florence2_prompt import task_template
from edgevlm.export.models.florence2_vision import davit_spec, patch_grid, write_vision
from edgevlm.export.models.image_config import height_width, normalisation, resample
from edgevlm.export.models.vlm import VlmFamily, all_tiles, normalized, tied
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.seq2seq.part import Seq2SeqPart
from edgevlm.export.seq2seq.weights import check_seq2seq
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

DEFAULT_CONTEXT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Florence2Family(VlmFamily):
    """Florence-2 as transformers has it."""

    text_prefixes: ClassVar[tuple[str, ...]] = ("model.language_model.", "language_model.", "")
    tower_prefixes: ClassVar[tuple[str, ...]] = ("model.vision_tower.", "vision_tower.")
    connector_prefixes: ClassVar[tuple[str, ...]] = (
        "model.multi_modal_projector.", "multi_modal_projector.",
    )  # fmt: skip
    reference_layers: ClassVar[str] = "model.language_model.decoder.layers"
    reference_stages: ClassVar[Mapping[str, str]] = {
        "features": "model.vision_tower",
        "visual_tokens": "model.multi_modal_projector",
        "encoded": "model.language_model.encoder",
    }

    def template(self, checkpoint: Checkpoint) -> str:
        """It is no chat model: the processor writes the prompt."""
        token = int(checkpoint.config.get("image_token_id", 51289))
        return task_template(str(checkpoint.tokenizer.id_to_token(token)))

    def image(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        options: ExportOptions,
    ) -> ImageSpec:
        """One picture, stretched."""
        settings = checkpoint.processor
        if not checkpoint.view(*self.tower_prefixes).has("convs.0.conv.weight"):
            raise CheckpointError(
                f"{checkpoint.folder} is not in the layout of transformers: take the conversion of "
                "this model, whose name begins with florence-community/"
            )
        if settings.get("do_center_crop") or "shortest_edge" in dict(settings.get("size") or {}):
            raise CheckpointError("florence2: an image processor that crops is not supported")
        height, width = height_width(settings, "size", 768)
        if options.image_size is not None and (height, width) != (options.image_size,) * 2:
            raise ConfigError(
                f"--image-size {options.image_size}: this checkpoint takes {height}x{width}"
            )
        return ImageSpec(
            policy=Fit(height=height, width=width, fit="stretch"),
            resample=resample(settings, "bicubic"),
            follows="CLIPImageProcessorPil",
        )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:
        """One a patch of the last stage, and their mean."""
        assert isinstance(image.policy, Fit)
        sides = patch_grid(config["vision_config"], image.policy.height, image.policy.width)
        return math.prod(sides) + 1

    def with_language(
        self,
        parts: ModelParts,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        options: ExportOptions,
    ) -> ModelParts:
        """An encoder and a decoder, as one more part."""
        weights = checkpoint.view(*self.text_prefixes)
        spec = self.language(checkpoint, config)
        check_seq2seq(spec, weights)
        visual = 0 if parts.visual_tokens is None else parts.visual_tokens.count
        if visual >= spec.source_capacity:
            raise CheckpointError(
                f"a picture is {visual} rows, and the encoder takes {spec.source_capacity}"
            )
        least, most = GREEDY_STEPS + 1, spec.max_positions
        wanted = options.max_context or min(DEFAULT_CONTEXT, most)
        if not least <= wanted <= most:
            raise ConfigError(
                f"--max-context {wanted}: {parts.name} answers in {least} to {most} tokens"
            )
        kv = KVLayout(
            layers=spec.decoder_layers,
            kv_heads=spec.decoder_heads,
            head_dim=spec.head_dim,
            capacity=wanted,
            dtype="float32",
        )
        part = Seq2SeqPart(spec=spec, weights=weights, capacity=wanted)
        sections = {**parts.sections, "seq2seq": spec}
        return replace(parts, kv=kv, parts=(*parts.parts, part), sections=sections)

    def language(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> Seq2SeqSpec:
        """The shape of the BART.

        Raises:
            CheckpointError: the text model is another, or its configuration does not hold together.
        """
        text = config["text_config"]
        if text["model_type"] != "bart":
            raise CheckpointError(f"florence2: the text model {text['model_type']!r} is not known")
        hidden = int(text["d_model"])
        start = checkpoint.generation.get("decoder_start_token_id", text["decoder_start_token_id"])
        head = tied(config, checkpoint.view("", "model."))
        try:
            return Seq2SeqSpec(
                hidden_size=hidden,
                encoder_layers=text["encoder_layers"],
                encoder_heads=text["encoder_attention_heads"],
                encoder_ffn_size=text["encoder_ffn_dim"],
                decoder_layers=text["decoder_layers"],
                decoder_heads=text["decoder_attention_heads"],
                decoder_ffn_size=text["decoder_ffn_dim"],
                vocab_size=text["vocab_size"],
                source_capacity=text["max_position_embeddings"],
                max_positions=text["max_position_embeddings"],
                activation=text["activation_function"],
                tied_head=head["tie_word_embeddings"],
                embed_scale=math.sqrt(hidden) if text["scale_embedding"] else 1.0,
                start_token_id=start,
            )
        except ValidationError as exc:
            raise CheckpointError(f"config.json of florence2: {reason(exc)}") from exc

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """DaViT and the projection."""
        mean, std = normalisation(checkpoint.processor, "clip")
        spec = davit_spec(config["vision_config"], image, mean, std)
        return partial(write_vision, tower=tower, connector=connector, spec=spec)

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The picture."""
        mean, std = normalisation(checkpoint.processor, "clip")
        return {"pixel_values": normalized(all_tiles(case), mean, std)}


FAMILY = Florence2Family(model_type="florence2")
