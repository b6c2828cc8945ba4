"""SAM: an image encoder, and a mask decoder that points and boxes steer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.hf_config import full_config
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
from edgevlm.export.towers.sam_vit import write_neck, write_sam_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs, VisionGraph
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SamFamily:
    """SAM as transformers has it."""

    model_type: str

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read everything that the export needs.

        Raises:
            CheckpointError: a checkpoint that cannot be read or does not hold together.
            ConfigError: options that do not fit this family.
        """
        refuse_options(self.model_type, options)
        config = full_config(checkpoint.folder)
        spec = vit_spec(checkpoint, config["vision_config"])
        channels = int(config["vision_config"]["output_channels"])
        tower = checkpoint.view("vision_encoder.")

        def vision(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w = TowerWriter(graph, tower, plan)
            found = write_neck(w, write_sam_vit(w, spec, *declare_picture(graph, spec)), channels)
            shape = (1, channels, spec.side, spec.side)
            return finish(graph, {"image_embeddings": (found, shape)}, w)

        return ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            precision="fp32",
            weight_files=checkpoint.weight_files,
            image=picture(checkpoint, spec),
            parts=(VisionGraph(vision), mask_head(checkpoint, config, spec.side)),
            reference=TransformersReference(
                folder=checkpoint.folder,
                module="edgevlm.export.reference.transformers_encoder",
                check_images=options.check_images,
            ),
            licenses=checkpoint.licenses,
            parameters=checkpoint.parameters,
            sections={"masks": mask_section(config, spec)},
        )

    def reference_model(self, checkpoint: Checkpoint, config: dict[str, Any]) -> Any:  # noqa: ARG002
        """The source model in float32."""
        from edgevlm.export.reference.pretrained import load_pretrained

        return load_pretrained("SamModel", checkpoint.folder)

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: dict[str, Any],  # noqa: ARG002
        case: ProbeCase,
    ) -> dict[str, Array]:
        """The picture and the prompts of a case, as the source model takes them."""
        return reference_prompts(checkpoint, case)

    def reference_outputs(
        self,
        model: Any,
        inputs: dict[str, Any],
        texts: dict[str, Any],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Tensors by stage."""
        found = model.get_image_embeddings(inputs["pixel_values"])
        return {"vision.image_embeddings": found, **reference_masks(model, found, inputs)}


FAMILY = SamFamily(model_type="sam")
