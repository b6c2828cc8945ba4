"""SigLIP 2 with NaFlex: pictures in their own aspect ratio, positions resampled for each.

Checkpoints of SigLIP 2 at one size are of the type ``siglip``.

Source: SigLIP 2 (Tschannen et al., 2025), section 2.4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import ImageSpec, NativePatches
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import ConfigError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.encoder import Build, activation, square, vision_config
from edgevlm.export.models.image_config import normalisation, resample
from edgevlm.export.models.siglip import SiglipFamily, pooled_outputs, tower_view
from edgevlm.export.models.vlm import all_tiles, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.naflex import NaflexSpec, write_naflex
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

MOST_PATCHES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Siglip2Family(SiglipFamily):
    """SigLIP 2 with NaFlex; its tokenizer lowers the case, cuts, and pads on the left."""

    follows: ClassVar[str] = "Siglip2ImageProcessorPil"
    padding_side: ClassVar[str] = "left"
    truncates: ClassVar[bool] = True
    lower_case: ClassVar[bool] = True
    pad: ClassVar[str] = "<pad>"
    reference_options: ClassVar[Mapping[str, bool]] = {}

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """As many patches as the processor allows; ``--image-size`` says it by a square's side.

        Raises:
            ConfigError: a chosen size that holds no whole patches.
        """
        vision, settings = vision_config(config), checkpoint.processor
        patch, chosen = square(vision, "patch_size"), options.image_size
        most = int(settings.get("max_num_patches", MOST_PATCHES))
        if chosen is not None:
            if chosen < patch or chosen % patch:
                raise ConfigError(
                    f"--image-size {chosen}: this encoder takes a multiple of {patch}"
                )
            most = (chosen // patch) ** 2
        side = self.tower_spec(checkpoint, config).table_side
        return ImageSpec(
            policy=NativePatches(patch=patch, most_patches=most, table_side=side),
            resample=resample(settings, "bilinear"),
            follows=self.follows,
        )

    def tower_spec(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> NaflexSpec:
        """Shape of the vision tower."""
        vision = vision_config(config)
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        return NaflexSpec(
            hidden_size=int(vision["hidden_size"]),
            heads=int(vision["num_attention_heads"]),
            layers=int(vision["num_hidden_layers"]),
            eps=float(vision["layer_norm_eps"]),
            activation=activation(vision),
            patch=square(vision, "patch_size"),
            positions=int(vision["num_patches"]),
            mean=mean,
            std=std,
        )

    def vision(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,  # noqa: ARG002
    ) -> Build:
        """Patches, and what attention pools of them."""
        vision, tower = vision_config(config), tower_view(checkpoint)
        spec = self.tower_spec(checkpoint, config)

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            return pooled_outputs(w, vision, write_naflex(w, spec), (1, "patches"))

        return build

    def reference_inputs(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], case: ProbeCase
    ) -> dict[str, Array]:
        """A case's picture as rows of patches, none of them padding."""
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        patch = square(vision_config(config), "patch_size")
        (planes,) = normalized(all_tiles(case), mean, std)
        rows, columns = planes.shape[1] // patch, planes.shape[2] // patch
        cells = planes.reshape(3, rows, patch, columns, patch).transpose(1, 3, 2, 4, 0)
        return {
            "pixel_values": cells.reshape(1, rows * columns, -1),
            "pixel_attention_mask": np.ones((1, rows * columns), np.int64),
            "spatial_shapes": np.array([[rows, columns]], np.int64),
        }


FAMILY = Siglip2Family(model_type="siglip2")
VISION = Siglip2Family(model_type="siglip2_vision_model")
