"""MobileCLIP and MobileCLIP2: FastViT or ViT, and a text transformer, from open_clip's files.

Source: MobileCLIP (Vasu et al., 2024), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.checkpoint.open_clip import FAMILY as NAME
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.encoder import Build, refuse_language_options
from edgevlm.export.models.image_config import multiple_of, normalisation
from edgevlm.export.models.mobileclip_vit import NAME as VIT
from edgevlm.export.models.mobileclip_vit import STRIDE as VIT_STRIDE
from edgevlm.export.models.mobileclip_vit import vit_build
from edgevlm.export.models.open_clip_text import text_side
from edgevlm.export.models.vlm import all_tiles, declare_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.reference.source_model import TransformersReference
from edgevlm.export.towers.fastvit import FastVitSpec, write_fastvit
from edgevlm.export.towers.pooling import unit_length
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs, VisionGraph
from edgevlm.tensors import Array

STRIDES = {f"fastvit_mci{n}": 32 if n < 3 else 64 for n in range(5)}  # pixels of one feature
STRIDES[VIT] = VIT_STRIDE
POOLS = {name: "token" if name == VIT else "avg" for name in STRIDES}
TRUNK = "visual.trunk."


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileClipFamily:
    """MobileCLIP whose image encoder is a FastViT, or for MobileCLIP-B a vision transformer."""

    model_type: str

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read everything that the export needs.

        Raises:
            CheckpointError: a checkpoint that cannot be read or does not hold together.
            ConfigError: options that do not fit this family.
        """
        refuse_language_options(self.model_type, options)
        config = checkpoint.config
        image = self.image(config, options)
        text = text_side(checkpoint, config["model_cfg"])
        return ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            precision="fp32",
            weight_files=checkpoint.weight_files,
            tokenizer=checkpoint.tokenizer,
            image=image,
            parts=(
                VisionGraph(self.vision(checkpoint, config, image)),
                VisionGraph(text.build, "text"),
            ),
            reference=TransformersReference(
                folder=checkpoint.folder,
                module="edgevlm.export.reference.own_encoder",
                check_images=options.check_images,
            ),
            licenses=checkpoint.licenses,
            sections={"text": text.spec},
            parameters=checkpoint.parameters,
        )

    def image(self, config: Mapping[str, Any], options: ExportOptions) -> ImageSpec:
        """The shorter side to the encoder's size, and the centre of it; or stretched.

        Raises:
            CheckpointError: another tower, or a way to resize that is not known.
        """
        vision = config["model_cfg"].get("vision_cfg", {})
        name = str(vision.get("timm_model_name"))
        if name not in STRIDES:
            raise CheckpointError(
                f"{self.model_type}: the image encoder {name!r} is not known, only "
                f"{', '.join(STRIDES)}"
            )
        if vision.get("timm_pool", POOLS[name]) != POOLS[name]:
            raise CheckpointError(
                f"{self.model_type}: {name} pools by {vision['timm_pool']!r}; only "
                f"{POOLS[name]!r} is known"
            )
        settings = config.get("preprocess_cfg", {})
        size = settings.get("size", vision.get("image_size", 224))
        sides = set(size) if isinstance(size, list) else {size}
        mode = settings.get("resize_mode", "shortest")
        if len(sides) != 1 or mode not in ("shortest", "squash"):
            raise CheckpointError(
                f"{self.model_type}: pictures of {size} pixels made by {mode!r}; only squares, "
                "made by 'shortest' or 'squash', are known"
            )
        side = int(sides.pop())
        if options.image_size is not None and name == VIT:
            raise ConfigError(f"--image-size: {name} has a position table for {side} pixels alone")
        if options.image_size is not None:
            side = multiple_of(options.image_size, STRIDES[name], self.model_type)
        fit = Fit(height=side, width=side, fit="stretch")
        if mode == "shortest":
            fit = Fit(height=side, width=side, fit="shortest", round_half_even=True)
        filters = {"bilinear", "bicubic", "nearest"}
        resample = settings.get("interpolation", "bicubic")
        if resample not in filters:
            raise CheckpointError(
                f"{self.model_type}: interpolation {resample!r} is none of {sorted(filters)}"
            )
        return ImageSpec(policy=fit, resample=resample, follows="open_clip.image_transform")

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], image: ImageSpec) -> Build:
        """FastViT, its training branches folded; the mean of its features, projected."""
        tower, (mean, std) = checkpoint.view(TRUNK, "visual."), pixels(config)
        policy, name = image.policy, config["model_cfg"]["vision_cfg"]["timm_model_name"]
        assert isinstance(policy, Fit)
        if name == VIT:
            return vit_build(tower, policy.height, mean, std)
        size, count = policy.height, (policy.height // STRIDES[name]) ** 2
        layer = "head.fc" if tower.has("head.fc.weight") else "head.proj"

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            declare_tiles(graph, size)
            features = write_fastvit(w, FastVitSpec(mean=mean, std=std))
            pooled = w.node("ReduceMean", [features, w.ints(1)], "pool", keepdims=0)
            bias = tower.has(f"{layer}.bias")
            embedding = unit_length(w, w.linear(pooled, layer, "head", bias=bias), "unit")
            width, channels = tower.shape(f"{layer}.weight")
            outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
                "embedding": (embedding, ("tiles", width)),
                "pooled": (pooled, ("tiles", channels)),
                "features": (features, ("tiles", count, channels)),
            }
            return finish(graph, outputs, w)

        return build

    def reference_name(self) -> str:
        """What computes the reference."""
        return "edgevlm's own torch code"

    def reference_model(self, checkpoint: Checkpoint, config: dict[str, Any]) -> Any:
        """The source model, in torch of our own: timm and open_clip are not needed."""
        from edgevlm.export.reference.mobileclip import MobileClip

        return MobileClip(checkpoint, config["model_cfg"]["text_cfg"])

    def reference_inputs(
        self,
        checkpoint: Checkpoint,  # noqa: ARG002
        config: dict[str, Any],
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The picture."""
        return {"pixel_values": normalized(all_tiles(case), *pixels(config))}

    def reference_outputs(
        self, model: Any, inputs: dict[str, Any], texts: dict[str, Any]
    ) -> dict[str, Any]:
        """Tensors by stage."""
        features, pooled, embedding = model.picture(inputs["pixel_values"])
        found = {"features": features, "pooled": pooled, "embedding": embedding}
        stages = {f"vision.{name}": value for name, value in found.items()}
        if texts:
            stages["text.text_embeds"] = model.texts(texts["input_ids"])
        return stages


def pixels(config: Mapping[str, Any]) -> Any:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    settings = config.get("preprocess_cfg", {})
    named = {f"image_{key}": settings[key] for key in ("mean", "std") if key in settings}
    return normalisation(named, "clip")


FAMILY = MobileClipFamily(model_type=NAME)
