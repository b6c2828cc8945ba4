"""SigLIP, and SigLIP 2 at one size: patches pooled by attention, and a text encoder that pads.

Source: SigLIP (Zhai et al., 2023), section 4; scores are sigmoids, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.models.encoder import (
    Build,
    EncoderFamily,
    TextSide,
    activation,
    square,
    vision_config,
)
from edgevlm.export.models.image_config import normalisation
from edgevlm.export.models.text_side import has_mask, text_spec
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.pooling import attention_pool, unit_length
from edgevlm.export.towers.positions import resized_table
from edgevlm.export.towers.text_tower import TextTowerSpec, write_text_tower
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Float32

PACKED, KEY_VALUE = "head.attention.in_proj_", "head.attention.key_value."


@dataclass(frozen=True, slots=True, kw_only=True)
class SiglipFamily(EncoderFamily):
    """SigLIP, both towers or the vision tower alone."""

    follows: ClassVar[str] = "SiglipImageProcessorPil"
    # What the tokenizer does where tokenizer_config.json does not say.
    padding_side: ClassVar[str] = "right"
    truncates: ClassVar[bool] = False
    lower_case: ClassVar[bool] = False
    pad: ClassVar[str] = "</s>"
    # What the source model's vision tower is asked besides the picture.
    reference_options: ClassVar[Mapping[str, bool]] = {"interpolate_pos_encoding": True}

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], image: ImageSpec) -> Build:
        """Patches, and what attention pools of them."""
        vision = vision_config(config)
        tower = tower_view(checkpoint)
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        assert isinstance(image.policy, Fit)
        size = image.policy.height
        side = size // square(vision, "patch_size")

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            table = tower.get("embeddings.position_embedding.weight")
            spec = VitSpec(
                hidden_size=int(vision["hidden_size"]),
                heads=int(vision["num_attention_heads"]),
                layers=int(vision["num_hidden_layers"]),
                eps=float(vision["layer_norm_eps"]),
                activation=activation(vision),
                image_size=size,
                mean=mean,
                std=std,
                positions=resized_table(table, side),
            )
            graph.input("image", "uint8", ("batch", size, size, 3), "RGB pixels")
            return pooled_outputs(w, vision, write_vit(w, spec), ("batch", side * side))

        return build

    def text(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> TextSide | None:
        """Every token sees every other; the last one, mostly padding, is the text's embedding."""
        if "text_config" not in config:
            return None
        text, weights = config["text_config"], checkpoint.view("text_model.")
        width = int(text["projection_size"])
        spec = TextTowerSpec(
            hidden_size=int(text["hidden_size"]),
            heads=int(text["num_attention_heads"]),
            layers=int(text["num_hidden_layers"]),
            eps=float(text["layer_norm_eps"]),
            activation=activation(text),
            names=VitNames(post_norm="final_layer_norm"),
            vocab_size=int(text["vocab_size"]),
            context_length=int(text["max_position_embeddings"]),
            causal=False,
            masked=has_mask(checkpoint),
            pool="last",
            projection="head",
            projection_bias=True,
        )
        section = text_spec(
            checkpoint,
            text,
            width=width,
            pad=self.pad,
            padding="context",
            side="left" if self.padding_side == "left" else "right",
            truncate=self.truncates,
            lower_case=self.lower_case,
            scores="sigmoid",
            template="This is a photo of {}.",
        )

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, weights, plan)
            embeds, table = write_text_tower(w, spec, plan.of("token_embedding"))
            written = finish(graph, {"text_embeds": (embeds, ("batch", width))}, w)
            return TowerOutputs(
                weights={**written.weights, "tokens": table}, exceptions=written.exceptions
            )

        return TextSide(section, build)

    def reference_outputs(
        self, model: Any, inputs: Mapping[str, Any], texts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Both towers by themselves: the model's own output normalises what is compared here."""
        seen = getattr(model, "vision_model", model)(**inputs, **self.reference_options)
        found = {"vision.features": seen.last_hidden_state}
        if seen.pooler_output is not None:
            pooled = found["vision.pooled"] = seen.pooler_output
            found["vision.embedding"] = pooled / pooled.norm(dim=-1, keepdim=True)
        if texts:
            said = model.text_model(**texts).pooler_output
            found["text.text_embeds"] = said / said.norm(dim=-1, keepdim=True)
        return found


def tower_view(checkpoint: Checkpoint) -> View:
    """The vision tower's weights, key and value of its pooling cut out of the stack of three."""

    def rename(name: str) -> str:
        return name.replace(KEY_VALUE, PACKED) if name.startswith(KEY_VALUE) else name

    def cut(name: str, value: Float32) -> Float32:
        return value[len(value) // 3 :] if name.startswith(KEY_VALUE) else value

    prefixes = ("vision_model.", "")
    return View(checkpoint.tensors, prefixes, str(checkpoint.folder), cut, rename)


def pooled_outputs(
    w: TowerWriter, vision: Mapping[str, Any], features: str, rows: tuple[int | str, int | str]
) -> TowerOutputs:
    """Pool the features and name the outputs.

    Args:
        w: writer that wrote the tower.
        vision: its configuration.
        features: ``(batch, rows, width)``.
        rows: the first two of these dimensions.
    """
    width = int(vision["hidden_size"])
    outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {}
    if vision.get("vision_use_head", True):
        pooled = attention_pool(
            w,
            features,
            heads=int(vision["num_attention_heads"]),
            eps=float(vision["layer_norm_eps"]),
            activation=activation(vision),
        )
        outputs["embedding"] = unit_length(w, pooled, "unit"), (rows[0], width)
        outputs["pooled"] = pooled, (rows[0], width)
    outputs["features"] = features, (*rows, width)
    return finish(w.graph, outputs, w)


FAMILY = SiglipFamily(model_type="siglip")
VISION = SiglipFamily(model_type="siglip_vision_model")
