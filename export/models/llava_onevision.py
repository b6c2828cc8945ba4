"""LLaVA-OneVision: SigLIP on the tiles of the best canvas, and a two-layer projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import AnyResolution, ImageSpec
from edgevlm.bundle.manifest import WeightEntry
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
from edgevlm.export.towers.connectors import mlp
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaOneVisionFamily(VlmFamily):
    """LLaVA-OneVision with a SigLIP tower."""

    text_prefixes: ClassVar[tuple[str, ...]] = (
        "language_model.model.", "language_model.", "model.language_model.", "",
    )  # fmt: skip
    tower_prefixes: ClassVar[tuple[str, ...]] = (
        "vision_tower.vision_model.", "vision_tower.", "model.vision_tower.vision_model.",
        "model.vision_tower.",
    )  # fmt: skip
    connector_prefixes: ClassVar[tuple[str, ...]] = ("", "model.")
    reference_stages: ClassVar[Mapping[str, str]] = {"visual_tokens": "model.multi_modal_projector"}

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """Canvases of whole tiles; ``--image-size`` leaves out those with a longer side."""
        settings, vision = checkpoint.processor, config["vision_config"]
        tile, _ = height_width(settings, "size", int(vision["image_size"]))
        points = settings.get("image_grid_pinpoints") or config["image_grid_pinpoints"]
        canvases = [(int(h), int(w)) for h, w in points]
        if options.image_size is not None:
            longest = multiple_of(options.image_size, tile, self.model_type)
            canvases = [c for c in canvases if max(c) <= longest] or [(tile, tile)]
        check_image_tokens(
            checkpoint, (int(vision["image_size"]) // int(vision["patch_size"])) ** 2
        )
        mean, _ = normalisation(settings, "clip")
        aspect = str(config.get("vision_aspect_ratio", "anyres_max_9"))
        most = aspect.removeprefix("anyres_max_")
        red, green, blue = (int(255 * m) for m in mean)
        return ImageSpec(
            policy=AnyResolution(
                tile=tile,
                canvases=tuple(canvases),
                side=int(vision["image_size"]) // int(vision["patch_size"]),
                most_tiles=int(most) if most.isdigit() else None,
                background=(red, green, blue),
            ),
            resample=resample(settings, "bicubic"),
            follows="LlavaOnevisionImageProcessorPil",
        )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:  # noqa: ARG002
        """The whole picture, and the largest canvas that is not scaled down."""
        policy = image.policy
        assert isinstance(policy, AnyResolution)
        cells = max(h * w for h, w in policy.canvases) // policy.tile**2
        if policy.most_tiles is not None:
            cells = min(cells, int(1.21 * policy.most_tiles) + 1)
        lines = max(h for h, _ in policy.canvases) // policy.tile * policy.side
        return (cells + 1) * policy.side**2 + lines

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """SigLIP up to the layer that is taken, and the projection."""
        vision = config["vision_config"]
        if vision["model_type"] != "siglip_vision_model":
            raise CheckpointError(
                f"{self.model_type}: the tower {vision['model_type']!r} is not known, only SigLIP"
            )
        policy, layer = image.policy, config["vision_feature_layer"]
        assert isinstance(policy, AnyResolution)
        if not isinstance(layer, int) or config["vision_feature_select_strategy"] != "full":
            raise CheckpointError(
                f"{self.model_type}: vision_feature_layer {layer!r} with the strategy "
                f"{config['vision_feature_select_strategy']!r} is not known, only one layer in full"
            )
        layers, width = int(vision["num_hidden_layers"]), int(vision["hidden_size"])
        mean, std = normalisation(checkpoint.processor, "clip")
        hidden = int(config["text_config"]["hidden_size"])
        bias = bool(config["multimodal_projector_bias"])

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            spec = VitSpec(
                hidden_size=width,
                heads=int(vision["num_attention_heads"]),
                layers=layer if layer >= 0 else layers + 1 + layer,
                eps=float(vision["layer_norm_eps"]),
                activation="gelu_tanh",
                image_size=policy.tile,
                mean=mean,
                std=std,
                positions=tower.get("embeddings.position_embedding.weight"),
                names=VitNames(post_norm=None),
            )
            declare_tiles(graph, policy.tile)
            features = write_vit(w, spec)
            c = TowerWriter(graph, connector, plan)
            first, second = (f"multi_modal_projector.linear_{n}" for n in (1, 2))
            tokens = mlp(c, features, first, second, "gelu", "connector", bias=bias)
            outputs = {
                "visual_tokens": (tokens, ("tiles", policy.side**2, hidden)),
                "features": (features, ("tiles", policy.side**2, width)),
            }
            written = finish(graph, outputs, w, c)
            segment = graph.data.write(np.ascontiguousarray(connector.get("image_newline")))
            newline = WeightEntry(layout="plain", values=segment)
            return TowerOutputs(
                weights={**written.weights, "image_newline": newline}, exceptions=written.exceptions
            )

        return build

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The tiles of one picture, and its size before."""
        mean, std = normalisation(checkpoint.processor, "clip")
        sizes = [picture.shape[:2] for picture in case.pictures]
        return {
            "pixel_values": normalized(all_tiles(case), mean, std)[None],
            "image_sizes": np.array(sizes, np.int64),
        }


FAMILY = LlavaOneVisionFamily(model_type="llava_onevision")
