"""A tiny random merged encoder, from transformers' own modules, and what they make of a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, normalizers, processors
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from tests.export.encoders import tiny_sam
from tests.export.tiny import VOCAB, tokenizer

WIDTH, SCALE = 20, 2.1
START, END = "<|startoftext|>", "<|endoftext|>"
TEXT = {
    "vocab_size": VOCAB + 2, "hidden_size": 28, "intermediate_size": 36, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 40, "bos_token_id": VOCAB,
    "eos_token_id": VOCAB + 1, "pad_token_id": VOCAB + 1,
}  # fmt: skip
HEAD = {
    "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 44,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip


class Head(nn.Module):
    """CLIP's encoder layers on the image encoder's last block."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        hidden = tiny_sam.VISION["hidden_size"]
        config = transformers.CLIPVisionConfig(
            hidden_size=hidden, attn_implementation="eager", **HEAD
        )
        self.layers = nn.ModuleList(CLIPEncoderLayer(config) for _ in range(2))
        self.post_layernorm = nn.LayerNorm(hidden)
        self.visual_projection = nn.Linear(hidden, WIDTH, bias=False)
        self.pool = pool

    def forward(self, x: torch.Tensor, extent: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Features, patch embeddings, and the embedding of the patches with picture in them."""
        patch, side = tiny_sam.VISION["patch_size"], x.shape[1]
        x = x.reshape(1, side * side, -1)
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        x = self.post_layernorm(x)
        y, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        inside = ((y * patch < extent[0]) & (xs * patch < extent[1])).reshape(-1)
        shown = x[:, inside]
        pooled = shown.max(1).values if self.pool == "max" else shown.mean(1)
        unit = nn.functional.normalize
        return {
            "features": x,
            "patch_embeds": unit(self.visual_projection(x), dim=-1),
            "embedding": unit(self.visual_projection(pooled), dim=-1),
        }


class Merged(nn.Module):
    """All parts, under the names of the layout."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.sam = transformers.SamModel(
            transformers.SamConfig(
                vision_config=tiny_sam.VISION,
                prompt_encoder_config=tiny_sam.PROMPTS,
                mask_decoder_config=tiny_sam.MASKS,
            )
        )
        text = transformers.CLIPTextConfig(**TEXT, projection_dim=WIDTH)
        self.text = transformers.CLIPTextModelWithProjection(text)
        self.semantic_head = Head(pool)

    def stored(self) -> dict[str, torch.Tensor]:
        """Tensors by stored name."""
        head = {f"semantic_head.{k}": v for k, v in self.semantic_head.state_dict().items()}
        parts = {**self.sam.state_dict(), **self.text.state_dict(), **head}
        parts["logit_scale"] = torch.tensor(SCALE)
        return {k: v.clone().contiguous() for k, v in parts.items()}


def sam_clip(folder: Path, pool: str = "max") -> Merged:
    """Save a checkpoint."""
    torch.manual_seed(0)
    model = tiny_sam.randomize(Merged(pool))
    folder.mkdir(parents=True)
    save_file(model.stored(), folder / "model.safetensors")
    config = {
        "model_type": "sam_clip",
        "vision_config": tiny_sam.VISION,
        "mask_config": {"prompt_encoder": tiny_sam.PROMPTS, "mask_decoder": tiny_sam.MASKS},
        "text_config": TEXT,
        "head_config": {**HEAD, "pool": pool},
        "projection_dim": WIDTH,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(tiny_sam.PICTURES))
    words().save(str(folder / "tokenizer.json"))
    return model


def words() -> Tokenizer:
    """The shared tiny tokenizer with CLIP's start and end, and its lower case."""
    made = Tokenizer.from_str(tokenizer().to_str())
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (START, END)])
    made.normalizer = normalizers.Lowercase()
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, VOCAB), (END, VOCAB + 1)]
    )
    return made


def source_answers(
    model: Merged, image: str, prompts: dict[str, Any], texts: list[str]
) -> dict[str, np.ndarray]:
    """What every head makes of one picture."""
    results = tiny_sam.source_answers(model.sam, image, prompts)
    inputs = tiny_sam.processor()(images=Image.open(image).convert("RGB"), return_tensors="pt")
    extent = tuple(inputs["reshaped_input_sizes"][0].tolist())
    kept: list[torch.Tensor] = []
    last = model.sam.vision_encoder.layers[-1]
    handle = last.register_forward_hook(lambda _m, _i, found: kept.append(found))
    with torch.inference_mode():
        model.sam.get_image_embeddings(inputs["pixel_values"])
        found = model.semantic_head(kept[0], extent)
        ids = [torch.tensor([words().encode(text).ids]) for text in texts]
        embeds = torch.cat([model.text(input_ids=row).text_embeds for row in ids])
        embeds = nn.functional.normalize(embeds, dim=-1)
        logits = np.exp(SCALE) * found["embedding"] @ embeds.T
        results["chances"] = logits.softmax(-1)[0].numpy()
        results["patch_map"] = (found["patch_embeds"][0] @ embeds.T).numpy()
    handle.remove()
    return results | {name: value.numpy() for name, value in found.items()}
