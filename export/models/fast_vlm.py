"""FastVLM: FastViTHD on one large square, and a two-layer projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import edge, multiple_of, normalisation, resample
from edgevlm.export.models.vlm import VlmFamily, all_tiles, declare_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.connectors import mlp
from edgevlm.export.towers.fastvit import FastVitSpec, write_fastvit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

STRIDE = 64  # pixels along a side of one visual token


@dataclass(frozen=True, slots=True, kw_only=True)
class FastVlmFamily(VlmFamily):
    """FastVLM as transformers has it."""

    text_prefixes: ClassVar[tuple[str, ...]] = (
        "model.language_model.", "language_model.model.", "language_model.", "",
    )  # fmt: skip
    tower_prefixes: ClassVar[tuple[str, ...]] = (
        "model.vision_tower.timm_model.", "vision_tower.timm_model.",
    )  # fmt: skip
    connector_prefixes: ClassVar[tuple[str, ...]] = (
        "model.multi_modal_projector.", "multi_modal_projector.",
    )  # fmt: skip
    reference_stages: ClassVar[Mapping[str, str]] = {"visual_tokens": "model.multi_modal_projector"}

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """The shorter side to the encoder's size, and the centre of it."""
        settings = checkpoint.processor
        size = edge(settings, "crop_size", "height", edge(settings, "size", "shortest_edge", 1024))
        if options.image_size is not None:
            size = multiple_of(options.image_size, self.stride(config), self.model_type)
        crop = bool(settings.get("do_center_crop", True))
        return ImageSpec(
            policy=Fit(height=size, width=size, fit="shortest" if crop else "stretch"),
            resample=resample(settings, "bicubic"),
            follows="CLIPImageProcessorPil",
        )

    def stride(self, config: Mapping[str, Any]) -> int:
        """Pixels along a side of one visual token: the processor's patch size.

        Raises:
            CheckpointError: the tower is no FastViT.
        """
        name = str(config["vision_config"].get("architecture"))
        if not name.startswith("fastvit_mci"):
            raise CheckpointError(f"{self.model_type}: the tower {name!r} is not known")
        return STRIDE if name in ("fastvit_mci3", "fastvit_mci4") else STRIDE // 2

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:
        """One a cell of the last feature map."""
        assert isinstance(image.policy, Fit)
        return (image.policy.height // self.stride(config)) ** 2

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """FastViT, its training branches folded, and the projection."""
        policy, count = image.policy, self.most_tokens(config, image)
        assert isinstance(policy, Fit)
        mean, std = normalisation(checkpoint.processor, "clip")
        hidden = int(config["text_config"]["hidden_size"])
        bias = bool(config.get("multimodal_projector_bias", True))

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w, c = TowerWriter(graph, tower, plan), TowerWriter(graph, connector, plan)
            declare_tiles(graph, policy.height)
            features = write_fastvit(w, FastVitSpec(mean=mean, std=std))
            tokens = mlp(c, features, "linear_1", "linear_2", "gelu", "connector", bias=bias)
            width = connector.shape("linear_1.weight")[1]
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
        """The picture."""
        mean, std = normalisation(checkpoint.processor, "clip")
        return {"pixel_values": normalized(all_tiles(case), mean, std)}


FAMILY = FastVlmFamily(model_type="fast_vlm")
