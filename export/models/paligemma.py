"""PaliGemma: SigLIP, one linear layer, and a Gemma whose prompt sees itself in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import (
    check_image_tokens,
    height_width,
    normalisation,
    resample,
)
from edgevlm.export.models.vlm import VlmFamily, all_tiles, declare_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

# As the processor writes it: all pictures, the beginning of text, the text, a line end.
TEMPLATE = (
    "{%- for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}{% endfor %}{{ bos_token }}"
    "{%- for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{{ '\\n' }}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaliGemmaFamily(VlmFamily):
    """PaliGemma and PaliGemma 2."""

    text_prefixes: ClassVar[tuple[str, ...]] = (
        "language_model.model.", "language_model.", "model.language_model.", "",
    )  # fmt: skip
    tower_prefixes: ClassVar[tuple[str, ...]] = (
        "vision_tower.vision_model.", "vision_tower.", "model.vision_tower.vision_model.",
        "model.vision_tower.",
    )  # fmt: skip
    connector_prefixes: ClassVar[tuple[str, ...]] = (
        "multi_modal_projector.", "model.multi_modal_projector.",
    )  # fmt: skip
    reference_stages: ClassVar[Mapping[str, str]] = {
        "features": "model.vision_tower",
        "visual_tokens": "model.multi_modal_projector",
    }

    def template(self, checkpoint: Checkpoint) -> str:  # noqa: ARG002
        """It is no chat model: the processor writes the prompt."""
        return TEMPLATE

    def decoder(self, config: Mapping[str, Any], spec: DecoderSpec) -> DecoderSpec:  # noqa: ARG002
        """With a prompt that is no sequence."""
        return spec.model_copy(update={"prefix_attention": True})

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """One square picture of the size that the position table is for."""
        size = int(config["vision_config"]["image_size"])
        if options.image_size not in (None, size):
            raise ConfigError(f"--image-size {options.image_size}: this checkpoint takes {size}")
        height, width = height_width(checkpoint.processor, "size", size)
        if (height, width) != (size, size):
            raise CheckpointError(
                f"{checkpoint.folder}: the processor makes pictures of {height} x {width} and "
                f"config.json takes {size} x {size}: copy both from one model"
            )
        check_image_tokens(checkpoint, (size // int(config["vision_config"]["patch_size"])) ** 2)
        return ImageSpec(
            policy=Fit(height=height, width=width, fit="stretch"),
            resample=resample(checkpoint.processor, "bicubic"),
            follows="SiglipImageProcessorPil",
        )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:  # noqa: ARG002
        """One a patch."""
        vision = config["vision_config"]
        return (int(vision["image_size"]) // int(vision["patch_size"])) ** 2

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """SigLIP and the projection."""
        vision, count = config["vision_config"], self.most_tokens(config, image)
        width, size = int(vision["hidden_size"]), int(vision["image_size"])
        mean, std = normalisation(checkpoint.processor, "standard")
        hidden = int(config["text_config"]["hidden_size"])

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w, c = TowerWriter(graph, tower, plan), TowerWriter(graph, connector, plan)
            spec = VitSpec(
                hidden_size=width,
                heads=int(vision["num_attention_heads"]),
                layers=int(vision["num_hidden_layers"]),
                eps=float(vision["layer_norm_eps"]),
                activation="gelu_tanh",
                image_size=size,
                mean=mean,
                std=std,
                positions=tower.get("embeddings.position_embedding.weight"),
            )
            declare_tiles(graph, size)
            features = write_vit(w, spec)
            tokens = c.linear(features, "linear", "connector")
            outputs = {
                "visual_tokens": (tokens, ("tiles", count, hidden)),
                "features": (features, ("tiles", count, width)),
            }
            return finish(graph, outputs, w, c)

        return build

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The picture, and the whole prompt as a prefix."""
        mean, std = normalisation(checkpoint.processor, "standard")
        return {
            "pixel_values": normalized(all_tiles(case), mean, std),
            "token_type_ids": np.zeros((1, len(case.load("ids"))), np.int64),
        }


FAMILY = PaliGemmaFamily(model_type="paligemma")
