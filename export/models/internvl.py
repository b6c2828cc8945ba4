"""InternVL 2.5 and 3 (``-hf``): InternViT on tiles and a thumbnail, pixel shuffle, an MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgevlm.bundle.images import Expansion, ImageSpec, InternVLTiles
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import (
    check_image_tokens,
    height_width,
    multiple_of,
    normalisation,
    resample,
)
from edgevlm.export.models.vlm import VlmFamily, all_tiles, declare_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.connectors import mlp, pixel_shuffle
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

PROJECTOR_EPS = 1e-5  # torch's default of LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class InternVLFamily(VlmFamily):
    """InternVL as transformers has it."""

    text_prefixes: ClassVar[tuple[str, ...]] = (
        "language_model.model.", "language_model.", "model.language_model.", "",
    )  # fmt: skip
    tower_prefixes: ClassVar[tuple[str, ...]] = ("vision_tower.", "model.vision_tower.")
    connector_prefixes: ClassVar[tuple[str, ...]] = (
        "multi_modal_projector.", "model.multi_modal_projector.",
    )  # fmt: skip
    reference_stages: ClassVar[Mapping[str, str]] = {
        "features": "model.vision_tower.encoder",
        "visual_tokens": "model.multi_modal_projector",
    }

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """The nearest grid; ``--image-size`` bounds the number of tiles along a side.

        Published settings say ``crop_to_patches: false``, and transformers' ``InternVLProcessor``
        cuts all the same: its own default goes over them.
        """
        settings = checkpoint.processor
        tile, _ = height_width(settings, "size", int(config["vision_config"]["image_size"][0]))
        check_image_tokens(checkpoint, _side(config, tile) ** 2)
        most = int(settings.get("max_patches", 12))
        if options.image_size is not None:
            most = min(most, (multiple_of(options.image_size, tile, self.model_type) // tile) ** 2)
        return ImageSpec(
            policy=InternVLTiles(
                tile=tile,
                least=int(settings.get("min_patches", 1)),
                most=most,
            ),
            resample=resample(settings, "bicubic"),
            follows="GotOcr2ImageProcessorPil",
            expansion=Expansion(prefix="<img>", suffix="</img>"),
        )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:
        """All tiles and the thumbnail."""
        policy = image.policy
        assert isinstance(policy, InternVLTiles)
        return _side(config, policy.tile) ** 2 * (policy.most + 1 if policy.split else 1) + 2

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """InternViT, the class token dropped, pixel shuffle, LayerNorm and MLP."""
        vision, policy = config["vision_config"], image.policy
        assert isinstance(policy, InternVLTiles)
        chosen = (config["vision_feature_layer"], config["vision_feature_select_strategy"])
        if chosen != (-1, "default"):
            raise CheckpointError(f"{self.model_type}: {chosen} is not the last layer's patches")
        side, width = policy.tile // int(vision["patch_size"][0]), int(vision["hidden_size"])
        factor = round(1 / float(config["downsample_ratio"]))
        mean, std = normalisation(checkpoint.processor, "imagenet")
        hidden = int(config["text_config"]["hidden_size"])
        normed = bool(vision.get("use_qk_norm"))

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            names = VitNames(
                patch="embeddings.patch_embeddings.projection",
                block="encoder.layer.{i}",
                norm1="layernorm_before",
                norm2="layernorm_after",
                query="attention.q_proj",
                key="attention.k_proj",
                value="attention.v_proj",
                out="attention.projection_layer",
                scale1="lambda_1",
                scale2="lambda_2",
                query_norm="attention.q_norm" if normed else None,
                key_norm="attention.k_norm" if normed else None,
                post_norm=None if vision.get("use_mean_pooling", True) else "layernorm",
            )
            spec = VitSpec(
                hidden_size=width,
                heads=int(vision["num_attention_heads"]),
                layers=int(vision["num_hidden_layers"]),
                eps=float(vision["layer_norm_eps"]),
                activation="gelu",
                image_size=policy.tile,
                mean=mean,
                std=std,
                positions=tower.get("embeddings.position_embeddings")[0],
                prefix=tower.get("embeddings.cls_token")[0],
                rms=vision.get("norm_type") == "rms_norm",
                qkv_bias=bool(vision.get("attention_bias")),
                names=names,
            )
            declare_tiles(graph, policy.tile)
            features = write_vit(w, spec)
            ends = [w.ints(n) for n in (1, side * side + 1, 1)]
            patches = w.node("Slice", [features, *ends], "connector/patches")
            c = TowerWriter(graph, connector, plan)
            rows = pixel_shuffle(c, patches, side, width, factor, "connector/shuffle")
            rows = c.layer_norm(rows, "layer_norm", PROJECTOR_EPS, "connector/norm")
            tokens = mlp(c, rows, "linear_1", "linear_2", "gelu", "connector")
            outputs = {
                "visual_tokens": (tokens, ("tiles", side**2 // factor**2, hidden)),
                "features": (features, ("tiles", side**2 + 1, width)),
            }
            return finish(graph, outputs, w, c)

        return build

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """All tiles, one batch."""
        mean, std = normalisation(checkpoint.processor, "imagenet")
        return {"pixel_values": normalized(all_tiles(case), mean, std)}


def _side(config: Mapping[str, Any], tile: int) -> int:
    """Rows of visual tokens along a tile's side."""
    patch = int(config["vision_config"]["patch_size"][0])
    return int(tile // patch * float(config["downsample_ratio"]))


FAMILY = InternVLFamily(model_type="internvl")
