"""What SAM and encoders made from it share: the image encoder's shape, and the mask decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.masks import GRAPH, MaskSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.heads.mask_decoder import MaskDecoderSpec, write_mask_decoder
from edgevlm.export.heads.prompt_encoder import cell_positions, write_points
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.encoder import activation, refuse_language_options
from edgevlm.export.models.image_config import edge, normalisation, resample
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.sam_vit import SamVitSpec
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs, VisionGraph


def refuse_options(model_type: str, options: ExportOptions) -> None:
    """Raise ConfigError for every option that such an encoder has no knob for."""
    refuse_language_options(model_type, options)
    if options.image_size is not None:
        raise ConfigError(
            f"--image-size {options.image_size}: {model_type}'s positions are made for one size, "
            "that of the checkpoint"
        )


def vit_spec(checkpoint: Checkpoint, vision: Mapping[str, Any]) -> SamVitSpec:
    """The encoder's shape.

    Raises:
        CheckpointError: no square input, or a picture processor made for another size.
    """
    size, patch = vision["image_size"], vision["patch_size"]
    if not isinstance(size, int) or not isinstance(patch, int) or size % patch:
        raise CheckpointError(
            f"{checkpoint.folder}: the image encoder takes {size} pixels in patches of {patch}; "
            "only squares of whole patches are known"
        )
    settings = checkpoint.processor
    found = edge(settings, "size", "longest_edge", size), edge(settings, "pad_size", "height", size)
    if found != (size, size):
        raise CheckpointError(
            f"{checkpoint.folder}: the image processor resizes to {found[0]} and pads to "
            f"{found[1]} pixels; the encoder takes {size}"
        )
    mean, std = normalisation(settings, "imagenet")
    return SamVitSpec(
        hidden_size=int(vision["hidden_size"]),
        heads=int(vision["num_attention_heads"]),
        layers=int(vision["num_hidden_layers"]),
        eps=float(vision["layer_norm_eps"]),
        activation=activation(vision),
        image_size=size,
        patch_size=patch,
        window=int(vision["window_size"]),
        global_layers=tuple(map(int, vision["global_attn_indexes"])),
        mean=mean,
        std=std,
        positions=bool(vision["use_abs_pos"]),
        relative=bool(vision["use_rel_pos"]),
        qkv_bias=bool(vision["qkv_bias"]),
    )


def picture(checkpoint: Checkpoint, spec: SamVitSpec) -> ImageSpec:
    """The longer side to the encoder's size; zeros to the right and below."""
    size = spec.image_size
    return ImageSpec(
        policy=Fit(height=size, width=size, fit="corner", zero_padding=True),
        resample=resample(checkpoint.processor, "bilinear"),
        follows="SamImageProcessorPil",
    )


def declare_picture(graph: GraphBuilder, spec: SamVitSpec) -> tuple[str, str]:
    """The inputs of the encoder."""
    size = spec.image_size
    image = graph.input("image", "uint8", (size, size, 3), "RGB pixels, in the upper left corner")
    return image, graph.input("extent", "int64", (2,), "height and width of the picture in it")


def mask_section(config: Mapping[str, Any], spec: SamVitSpec) -> MaskSpec:
    """What the runtime must know of the mask decoder."""
    return MaskSpec(
        input_size=spec.image_size,
        mask_size=4 * spec.side,
        candidates=int(config["mask_decoder_config"]["num_multimask_outputs"]) + 1,
    )


def mask_head(checkpoint: Checkpoint, config: Mapping[str, Any], side: int) -> VisionGraph:
    """Prompt encoder and mask decoder, as one graph.

    Raises:
        CheckpointError: they are made for another size than the image encoder.
    """
    prompts, decoder = config["prompt_encoder_config"], config["mask_decoder_config"]
    hidden, size = int(decoder["hidden_size"]), int(prompts["image_size"])
    if (size // int(prompts["patch_size"]), int(prompts["hidden_size"])) != (side, hidden):
        raise CheckpointError(
            f"{checkpoint.folder}: the prompt encoder is made for {size} pixels in patches of "
            f"{prompts['patch_size']} and a width of {prompts['hidden_size']}; the image encoder "
            f"gives {side}x{side} cells and the mask decoder takes a width of {hidden}"
        )
    weights = checkpoint.view("mask_decoder.", "prompt_encoder.")
    shared = checkpoint.view("shared_image_embedding.", "prompt_encoder.shared_embedding.")

    def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
        w = TowerWriter(graph, weights, plan)
        frequencies = shared.get("positional_embedding")
        spec = MaskDecoderSpec(
            hidden_size=hidden,
            heads=int(decoder["num_attention_heads"]),
            layers=int(decoder["num_hidden_layers"]),
            masks=int(decoder["num_multimask_outputs"]) + 1,
            score_depth=int(decoder["iou_head_depth"]),
            activation=activation(decoder),
            eps=float(decoder["layer_norm_eps"]),
            side=side,
            positions=cell_positions(frequencies, side),
        )
        cells = graph.input("image_embeddings", "float32", (1, hidden, side, side))
        points = graph.input("points", "float32", ("prompts", "n", 2), "x and y in input pixels")
        labels = graph.input("labels", "int64", ("prompts", "n"), "0 out, 1 in, 2 and 3 corners")
        tokens = write_points(w, frequencies, size, points, labels)
        masks, scores = write_mask_decoder(w, spec, cells, tokens)
        outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            "masks": (masks, ("prompts", spec.masks, 4 * side, 4 * side)),
            "scores": (scores, ("prompts", spec.masks)),
        }
        return finish(graph, outputs, w)

    return VisionGraph(build, GRAPH)
