"""SAM in transformers, asked what the bundle's own probe asks."""

from __future__ import annotations

from typing import Any

from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.models.image_config import normalisation
from edgevlm.export.models.vlm import normalized
from edgevlm.tensors import Array


def reference_prompts(checkpoint: Checkpoint, case: ProbeCase) -> dict[str, Array]:
    """The picture and the prompts of a case, as SAM in transformers takes them.

    Returns:
        ``pixel_values``, zero beside the picture; ``points`` and ``labels`` of prompts without the
        closing point, which the model adds itself; ``boxes`` float32 ``(1, prompts, 4)``.
    """
    mean, std = normalisation(checkpoint.processor, "imagenet")
    pixels = normalized(case.tiles(0), mean, std)
    height, width = case.load("extent").tolist()
    pixels[:, :, height:] = 0
    pixels[:, :, :, width:] = 0
    corners = case.load("mask.boxes.points")
    return {
        "pixel_values": pixels,
        "points": case.load("mask.points.points")[None, :, :-1],
        "labels": case.load("mask.points.labels")[None, :, :-1],
        "boxes": corners.reshape(1, len(corners), 4),
    }


def reference_masks(model: Any, cells: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Masks and scores of the prompts, those of points first; the unambiguous mask first."""
    import torch

    prompts = (
        {"input_points": inputs["points"], "input_labels": inputs["labels"]},
        {"input_boxes": inputs["boxes"]},
    )
    masks, scores = [], []
    for prompt in prompts:
        found = [model(image_embeddings=cells, multimask_output=m, **prompt) for m in (False, True)]
        masks.append(torch.cat([f.pred_masks[0] for f in found], dim=1))
        scores.append(torch.cat([f.iou_scores[0] for f in found], dim=1))
    return {"mask.masks": torch.cat(masks), "mask.scores": torch.cat(scores)}
