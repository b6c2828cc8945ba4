"""SmolVLM, SmolVLM2 and Idefics3: SigLIP on square tiles, pixel shuffle, one linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import Expansion, Idefics3Tiles, ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import (
    check_image_tokens,
    edge,
    multiple_of,
    normalisation,
    resample,
)
from edgevlm.export.models.vlm import VlmFamily, all_tiles, declare_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.connectors import pixel_shuffle
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Idefics3Family(VlmFamily):
    """Idefics3 and what came of it."""

    text_prefixes: ClassVar[tuple[str, ...]] = ("model.text_model.", "")
    tower_prefixes: ClassVar[tuple[str, ...]] = ("model.vision_model.",)
    connector_prefixes: ClassVar[tuple[str, ...]] = ("model.connector.",)
    reference_layers: ClassVar[str] = "model.text_model.layers"
    reference_stages: ClassVar[Mapping[str, str]] = {
        "features": "model.vision_model",
        "visual_tokens": "model.connector",
    }

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """Tiles of the encoder's size; ``--image-size`` bounds the longer side."""
        settings, vision = checkpoint.processor, config["vision_config"]
        tile = edge(settings, "max_image_size", "longest_edge", int(vision["image_size"]))
        longest = edge(settings, "size", "longest_edge", 4 * tile)
        if options.image_size is not None:
            longest = multiple_of(options.image_size, tile, self.model_type)
        side = tile // int(vision["patch_size"]) // int(config["scale_factor"])
        check_image_tokens(checkpoint, side * side)
        fake = "<fake_token_around_image>"
        return ImageSpec(
            policy=Idefics3Tiles(
                longest=longest, tile=tile, split=bool(settings.get("do_image_splitting", True))
            ),
            resample=resample(settings, "lanczos"),
            follows="Idefics3ImageProcessorPil",
            expansion=Expansion(
                before_tile=fake + "<row_{row}_col_{column}>",
                row_end="\n",
                before_whole=f"\n{fake}<global-img>",
                suffix=fake,
                single=f"{fake}<global-img>",
            ),
        )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:
        """Of a square picture, which becomes the most tiles, with what is written around them."""
        policy = image.policy
        assert isinstance(policy, Idefics3Tiles)
        vision = config["vision_config"]
        side = policy.tile // int(vision["patch_size"]) // int(config["scale_factor"])
        tiles = (-(-policy.longest // policy.tile)) ** 2
        return (side * side + 3) * (tiles + 1)

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """SigLIP, pixel shuffle, projection."""
        vision, factor = config["vision_config"], int(config["scale_factor"])
        assert isinstance(image.policy, Idefics3Tiles)
        size = image.policy.tile
        side, width = size // int(vision["patch_size"]), int(vision["hidden_size"])
        mean, std = normalisation(checkpoint.processor, "standard")

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            table = tower.get("embeddings.position_embedding.weight")
            spec = VitSpec(
                hidden_size=width,
                heads=int(vision["num_attention_heads"]),
                layers=int(vision["num_hidden_layers"]),
                eps=float(vision["layer_norm_eps"]),
                activation="gelu_tanh",
                image_size=size,
                mean=mean,
                std=std,
                positions=_bucketed(table, int(vision["image_size"]), vision["patch_size"], side),
            )
            declare_tiles(graph, size)
            features = write_vit(w, spec)
            c = TowerWriter(graph, connector, plan)
            rows = pixel_shuffle(c, features, side, width, factor, "connector/shuffle")
            tokens = c.linear(rows, "modality_projection.proj", "connector/proj", bias=False)
            hidden = int(config["text_config"]["hidden_size"])
            outputs = {
                "visual_tokens": (tokens, ("tiles", side**2 // factor**2, hidden)),
                "features": (features, ("tiles", side**2, width)),
            }
            return finish(graph, outputs, w, c)

        return build

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """All tiles of all pictures, one batch."""
        mean, std = normalisation(checkpoint.processor, "standard")
        return {"pixel_values": normalized(all_tiles(case), mean, std)[None]}


def _bucketed(table: Float32, image_size: int, patch: int, side: int) -> Float32:
    """Rows of the position table for a full square of ``side`` patches, as the model picks them.

    The model asks in float32 which bucket a fraction falls into, and near ties must fall the same
    way here.
    """
    cells = image_size // patch
    bounds = np.arange(1 / cells, 1.0, 1 / cells).astype(np.float32)
    fractions = np.arange(side, dtype=np.float32) * (np.float32(1.0) / np.float32(side))
    buckets = np.searchsorted(bounds, np.minimum(fractions, np.float32(1.0 - 1e-6)), side="right")
    rows: Float32 = table[(buckets[:, None] * cells + buckets[None]).reshape(-1)]
    return rows


FAMILY = Idefics3Family(model_type="smolvlm")
IDEFICS3 = Idefics3Family(model_type="idefics3")
