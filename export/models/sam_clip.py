"""SAM and CLIP in one: one image encoder, a text-aligned head, SAM's mask decoder, a text encoder.

transformers has no class for such checkpoints; ``docs/sam-clip.md`` says how they are laid out.

Source: SAM-CLIP (Wang et al., 2023), section 3: a light head with CLIP's embedding space beside the
mask decoder, on SAM's image encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.heads.semantic import SemanticHeadSpec, write_semantic_head
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models import clip
from edgevlm.export.models.encoder import Build, activation
from edgevlm.export.models.hf_config import section
from edgevlm.export.models.sam_parts import (
    declare_picture,
    mask_head,
    mask_section,
    picture,
    refuse_options,
    vit_spec,
)
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.reference.sam import reference_masks, reference_prompts
from edgevlm.export.reference.source_model import TransformersReference
from edgevlm.export.towers.sam_vit import SamVitSpec, write_neck, write_sam_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs, VisionGraph
from edgevlm.tensors import Array

CLASSES = {
    "vision_config": "SamVisionConfig",
    "prompt_encoder_config": "SamPromptEncoderConfig",
    "mask_decoder_config": "SamMaskDecoderConfig",
    "text_config": "CLIPTextConfig",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamClipFamily:
    """The merged encoder."""

    model_type: str

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read everything that the export needs.

        Raises:
            CheckpointError: a checkpoint that cannot be read or does not hold together.
            ConfigError: options that do not fit this family.
        """
        refuse_options(self.model_type, options)
        config = filled(checkpoint.config)
        spec = vit_spec(checkpoint, config["vision_config"])
        text = clip.FAMILY.text(checkpoint, config)
        assert text is not None  # the configuration has a section about it
        return ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            precision="fp32",
            weight_files=checkpoint.weight_files,
            tokenizer=checkpoint.tokenizer,
            image=picture(checkpoint, spec),
            parts=(
                VisionGraph(self.vision(checkpoint, config, spec)),
                mask_head(checkpoint, config, spec.side),
                VisionGraph(text.build, "text"),
            ),
            reference=TransformersReference(
                folder=checkpoint.folder,
                module="edgevlm.export.reference.own_encoder",
                check_images=options.check_images,
            ),
            licenses=checkpoint.licenses,
            parameters=checkpoint.parameters,
            sections={"masks": mask_section(config, spec), "text": text.spec},
        )

    def vision(self, checkpoint: Checkpoint, config: Mapping[str, Any], spec: SamVitSpec) -> Build:
        """The image encoder, its neck, and the text-aligned head: one pass."""
        channels = int(config["vision_config"]["output_channels"])
        head, width = head_spec(config, spec.hidden_size), int(config["projection_dim"])
        tower, semantic = checkpoint.view("vision_encoder."), checkpoint.view("")

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w, s = TowerWriter(graph, tower, plan), TowerWriter(graph, semantic, plan)
            image, extent = declare_picture(graph, spec)
            x = write_sam_vit(w, spec, image, extent)
            found = write_semantic_head(s, head, x, extent, spec.side, spec.patch_size)
            cells, patches = write_neck(w, x, channels), spec.side**2
            shape = (1, channels, spec.side, spec.side)
            outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
                "image_embeddings": (cells, shape),
                "embedding": (found.embedding, (1, width)),
                "patch_embeds": (found.patch_embeds, (1, patches, width)),
                "features": (found.features, (1, patches, spec.hidden_size)),
            }
            return finish(graph, outputs, w, s)

        return build

    def reference_name(self) -> str:
        """What computes the reference."""
        import transformers

        return f"SAM and CLIP of transformers {transformers.__version__}, a head in torch"

    def reference_model(self, checkpoint: Checkpoint, config: dict[str, Any]) -> Any:
        """The source model in float32."""
        from edgevlm.export.reference.sam_clip import SamClip

        return SamClip(checkpoint, filled(config), CLASSES)

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: dict[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The picture and the prompts of a case."""
        return {**reference_prompts(checkpoint, case), "extent": case.load("extent")}

    def reference_outputs(
        self, model: Any, inputs: dict[str, Any], texts: dict[str, Any]
    ) -> dict[str, Any]:
        """Tensors by stage."""
        found = model.picture(inputs["pixel_values"], inputs["extent"].tolist())
        stages = {f"vision.{name}": value for name, value in found.items()}
        stages |= reference_masks(model.sam, found["image_embeddings"], inputs)
        if texts:
            stages["text.text_embeds"] = model.texts(texts["input_ids"])
        return stages


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every default, its mask section as SAM in transformers names it.

    Raises:
        CheckpointError: a section is missing or refused.
    """
    masks = config.get("mask_config")
    parts = {
        **config,
        "prompt_encoder_config": masks.get("prompt_encoder") if masks else None,
        "mask_decoder_config": masks.get("mask_decoder") if masks else None,
    }
    wanted = (*CLASSES, "head_config", "projection_dim")
    if lost := [name for name in wanted if parts.get(name) is None]:
        raise CheckpointError(
            f"config.json of sam_clip lacks {', '.join(lost)}; docs/sam-clip.md has the layout"
        )
    return {**parts, **{name: section(cls, parts[name]) for name, cls in CLASSES.items()}}


def head_spec(config: Mapping[str, Any], hidden: int) -> SemanticHeadSpec:
    """The text-aligned head's shape.

    Raises:
        CheckpointError: a way to pool that is not known.
    """
    head = config["head_config"]
    pool = head.get("pool", "max")
    if pool not in ("max", "mean"):
        raise CheckpointError(
            f"sam_clip: head_config pools by {pool!r}; 'max' and 'mean' are known"
        )
    return SemanticHeadSpec(
        hidden_size=hidden,
        heads=int(head["num_attention_heads"]),
        layers=int(head["num_hidden_layers"]),
        eps=float(head.get("layer_norm_eps", 1e-5)),
        activation=activation({"hidden_act": head.get("hidden_act", "gelu")}),
        pool=pool,
    )


FAMILY = SamClipFamily(model_type="sam_clip")
