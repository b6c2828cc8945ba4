"""DINOv2: a self-supervised vision transformer; features of the picture and of every patch.

Source: DINOv2 (Oquab et al., 2023); registers: Vision Transformers Need Registers (Darcet et al.,
2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.models.encoder import Build, EncoderFamily, activation, square
from edgevlm.export.models.image_config import normalisation
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.pooling import row
from edgevlm.export.towers.positions import resized_table
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs

MLP = {"up": "mlp.fc1", "down": "mlp.fc2"}
SWIGLU = {"up": "mlp.weights_in", "down": "mlp.weights_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dinov2Family(EncoderFamily):
    """DINOv2, with registers or without."""

    follows: ClassVar[str] = "BitImageProcessorPil"
    norm_kind: ClassVar[str] = "clip"
    crops: ClassVar[bool] = True
    any_size: ClassVar[bool] = True
    registers: bool = False

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], image: ImageSpec) -> Build:
        """Class token, registers and patches; positions for the size of the picture."""
        tower = checkpoint.view("", "dinov2.", "dinov2_with_registers.")
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        assert isinstance(image.policy, Fit)
        size, width = image.policy.height, int(config["hidden_size"])
        side, gated = size // square(config, "patch_size"), bool(config["use_swiglu_ffn"])
        names = VitNames(
            patch="embeddings.patch_embeddings.projection",
            block="encoder.layer.{i}",
            norm1="norm1",
            norm2="norm2",
            query="attention.attention.query",
            key="attention.attention.key",
            value="attention.attention.value",
            out="attention.output.dense",
            gated=gated,
            scale1="layer_scale1.lambda1",
            scale2="layer_scale2.lambda1",
            post_norm="layernorm",
            **(SWIGLU if gated else MLP),
        )

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            prefix = [tower.get("embeddings.cls_token").reshape(1, width)]
            table = tower.get("embeddings.position_embeddings").reshape(-1, width)
            positions = [table[:1], resized_table(table[1:], side, antialias=self.registers)]
            if self.registers:  # they have no positions
                prefix.append(tower.get("embeddings.register_tokens").reshape(-1, width))
                positions.insert(1, np.zeros_like(prefix[1]))
            spec = VitSpec(
                hidden_size=width,
                heads=int(config["num_attention_heads"]),
                layers=int(config["num_hidden_layers"]),
                eps=float(config["layer_norm_eps"]),
                activation="silu" if gated else activation(config),
                image_size=size,
                mean=mean,
                std=std,
                qkv_bias=bool(config["qkv_bias"]),
                positions=np.concatenate(positions),
                prefix=np.concatenate(prefix),
                names=names,
            )
            graph.input("image", "uint8", ("batch", size, size, 3), "RGB pixels")
            features = write_vit(w, spec)
            outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
                "pooled": (row(w, features, 0, "pool"), ("batch", width)),
                "features": (features, ("batch", len(spec.positions), width)),
            }
            return finish(graph, outputs, w)

        return build

    def reference_outputs(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        texts: Mapping[str, Any],  # noqa: ARG002
    ) -> dict[str, Any]:
        """The encoder, without a classifier that may stand on it."""
        seen = getattr(model, model.base_model_prefix, model)(**inputs)
        return {"vision.pooled": seen.pooler_output, "vision.features": seen.last_hidden_state}


FAMILY = Dinov2Family(model_type="dinov2")
REGISTERS = Dinov2Family(model_type="dinov2_with_registers", registers=True)
