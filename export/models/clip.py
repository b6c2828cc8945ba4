"""CLIP: a vision transformer with a class token, and a causal text encoder pooled at its end.

Source: CLIP (Radford et al., 2021), section 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.export.checkpoint import Checkpoint
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
from edgevlm.export.models.text_side import check_end, text_spec
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.pooling import row, unit_length
from edgevlm.export.towers.positions import resized_table
from edgevlm.export.towers.text_tower import TextTowerSpec, write_text_tower
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs

OLD_END = 2  # eos_token_id of configurations that do not know their end token


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFamily(EncoderFamily):
    """CLIP, both towers or the vision tower alone."""

    norm_kind: ClassVar[str] = "clip"
    follows: ClassVar[str] = "CLIPImageProcessorPil"
    crops: ClassVar[bool] = True
    tower_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.", "")

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], image: ImageSpec) -> Build:
        """Class token and patches; the class token's row, projected."""
        vision = vision_config(config)
        tower = checkpoint.view(*self.tower_prefixes)
        projected = tower.has("visual_projection.weight")
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        assert isinstance(image.policy, Fit)
        size, width = image.policy.height, int(vision["hidden_size"])
        side = size // square(vision, "patch_size")

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            table = tower.get("embeddings.position_embedding.weight")
            spec = VitSpec(
                hidden_size=width,
                heads=int(vision["num_attention_heads"]),
                layers=int(vision["num_hidden_layers"]),
                eps=float(vision["layer_norm_eps"]),
                activation=activation(vision),
                image_size=size,
                mean=mean,
                std=std,
                positions=np.concatenate([table[:1], resized_table(table[1:], side)]),
                prefix=tower.get("embeddings.class_embedding").reshape(1, width),
                names=VitNames(pre_norm="pre_layrnorm", post_norm=None),
            )
            graph.input("image", "uint8", ("batch", size, size, 3), "RGB pixels")
            features = write_vit(w, spec)
            pooled = w.layer_norm(row(w, features, 0, "pool"), "post_layernorm", spec.eps, "pool")
            outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {}
            if projected:
                embedding = w.linear(pooled, "visual_projection", "projection", bias=False)
                shape = ("batch", tower.shape("visual_projection.weight")[0])
                outputs["embedding"] = unit_length(w, embedding, "unit"), shape
            outputs["pooled"] = pooled, ("batch", width)
            outputs["features"] = features, ("batch", 1 + side * side, width)
            return finish(graph, outputs, w)

        return build

    def text(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> TextSide | None:
        """A causal encoder; None in a checkpoint of the vision tower alone."""
        if "text_config" not in config:
            return None
        text, width = config["text_config"], int(config["projection_dim"])
        weights, end = checkpoint.view("text_model.", ""), text.get("eos_token_id")
        old = end == OLD_END
        check_end(checkpoint, None if old else int(end))
        spec = TextTowerSpec(
            hidden_size=int(text["hidden_size"]),
            heads=int(text["num_attention_heads"]),
            layers=int(text["num_hidden_layers"]),
            eps=float(text["layer_norm_eps"]),
            activation=activation(text),
            names=VitNames(post_norm="final_layer_norm"),
            vocab_size=int(text["vocab_size"]),
            context_length=int(text["max_position_embeddings"]),
            causal=True,
            masked=False,  # padding stands behind the end token, which does not see it
            pool="largest" if old else "end",
            end_token_id=None if old else int(end),
            projection="text_projection",
            projection_bias=False,
        )
        section = text_spec(
            checkpoint,
            text,
            width=width,
            pad="<|endoftext|>",
            padding="longest",
            scores="softmax",
            template="a photo of a {}",
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
        tower = getattr(model, "vision_model", model)
        seen = tower(pixel_values=inputs["pixel_values"], interpolate_pos_encoding=True)
        found = {"vision.pooled": seen.pooler_output, "vision.features": seen.last_hidden_state}
        if hasattr(model, "visual_projection"):
            embedding = model.visual_projection(seen.pooler_output)
            found["vision.embedding"] = embedding / embedding.norm(dim=-1, keepdim=True)
        if texts:
            said = model.text_projection(model.text_model(**texts).pooler_output)
            found["text.text_embeds"] = said / said.norm(dim=-1, keepdim=True)
        return found


FAMILY = ClipFamily(model_type="clip")
VISION = ClipFamily(model_type="clip_vision_model")
