"""Tiny random SAM checkpoints, and what transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

SIZE = 72  # 9 patches a side: windows of 4 need padding
VISION = {
    "hidden_size": 36, "output_channels": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
    "image_size": SIZE, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1],
    "num_pos_feats": 12, "mlp_dim": 52, "initializer_range": 0.2,
}  # fmt: skip
PROMPTS = {"hidden_size": 24, "image_size": SIZE, "patch_size": 8, "mask_input_channels": 8}
MASKS = {"hidden_size": 24, "mlp_dim": 40, "num_attention_heads": 2, "iou_head_hidden_dim": 20}
PICTURES = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True, "resample": 2,
    "size": {"longest_edge": SIZE}, "pad_size": {"height": SIZE, "width": SIZE},
    "image_processor_type": "SamImageProcessor",
}  # fmt: skip


def randomize(model: Any) -> Any:
    """Everything random, so that nothing can be left out unnoticed."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.uniform_(0.5, 1.5)
            elif "positional_embedding" in name:
                value.normal_(0, 1)
            else:
                value.normal_(0, 0.3)
    return model.eval()


def sam(folder: Path, **changes: Any) -> Any:
    """Save a checkpoint; ``changes`` go into the image encoder's configuration."""
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={**VISION, **changes},
        prompt_encoder_config=PROMPTS,
        mask_decoder_config=MASKS,
    )
    model = randomize(transformers.SamModel(config))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES))
    return model


def processor() -> Any:
    """The processor with Pillow's resizing."""
    settings = {k: v for k, v in PICTURES.items() if not k.endswith("_type")}
    return transformers.SamProcessor(transformers.SamImageProcessorPil(**settings))


def source_answers(model: Any, image: str, prompts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Embeddings, logits over the encoder's input, logits over the picture, and scores.

    Prompts of fewer points are filled up with points that transformers ignores.
    """
    given = {}
    if points := prompts.get("points"):
        longest = max(map(len, points))
        labels = prompts.get("labels") or [[1] * len(p) for p in points]
        given["input_points"] = [[p + [[0, 0]] * (longest - len(p)) for p in points]]
        given["input_labels"] = [[p + [-10] * (longest - len(p)) for p in labels]]
    if boxes := prompts.get("boxes"):
        given["input_boxes"] = [boxes]
    made = processor()
    inputs = made(images=Image.open(image).convert("RGB"), return_tensors="pt", **given)
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    results = {}
    with torch.inference_mode():
        results["image_embeddings"] = model.get_image_embeddings(inputs["pixel_values"]).numpy()
        for several in (True, False):
            found = model(**inputs, multimask_output=several)
            results[f"{several}.logits"] = found.pred_masks[0].numpy()
            results[f"{several}.scores"] = found.iou_scores[0].numpy()
            (large,) = made.image_processor.post_process_masks(
                list(found.pred_masks), *sizes, binarize=False
            )
            results[f"{several}.large"] = large.numpy()
    return results
