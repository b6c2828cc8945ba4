"""A tiny random MobileCLIP in open_clip's layout, from timm and torch; run with the oracles.

``python -m tests.export.encoders.mobileclip_source FOLDER FORM QUESTIONS.json OUT.npz`` saves the
checkpoint, with its training branches or folded, and answers. open_clip itself is not needed: its
image encoder is timm's, and its text transformer is written down here with torch's attention.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.utils import reparameterize_model
from tokenizers import AddedToken, Tokenizer, normalizers, processors
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from tests.export.tiny import VOCAB, tokenizer
from tests.export.vlm.tiny import randomize

SIZE, WIDTH, TEXT, CONTEXT = 96, 20, 24, 19
START, END = "<|startoftext|>", "<|endoftext|>"
SHAPES: dict[str, dict[str, Any]] = {
    "fastvit_mci0": {"layers": (1, 2, 1, 2)},
    "fastvit_mci2": {"layers": (1, 1, 2, 1)},
    "vit_base_mci_224": {"depth": 2, "img_size": SIZE},
}


class Block(nn.Module):
    """One residual block, named as in open_clip."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(TEXT), nn.LayerNorm(TEXT)
        self.attn = nn.MultiheadAttention(TEXT, 3, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(TEXT, 40), "c_proj": nn.Linear(40, TEXT)})

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Clip(nn.Module):
    """Both encoders, named as in open_clip's CustomTextCLIP."""

    def __init__(self, name: str, causal: bool) -> None:
        super().__init__()
        shape = SHAPES[name] | ({} if "depth" in SHAPES[name] else {"embed_dims": (16, 32, 32, 64)})
        trunk = timm.create_model(name, num_classes=WIDTH, **shape)
        self.visual = nn.ModuleDict({"trunk": trunk})
        self.text = nn.Module()
        self.text.token_embedding = nn.Embedding(VOCAB + 2, TEXT)
        self.text.positional_embedding = nn.Parameter(torch.empty(CONTEXT, TEXT).normal_(0, 0.3))
        self.text.transformer = nn.ModuleDict({"resblocks": nn.ModuleList([Block(), Block()])})
        self.text.ln_final = nn.LayerNorm(TEXT)
        self.text.text_projection = nn.Parameter(torch.empty(TEXT, WIDTH).normal_(0, 0.3))
        self.logit_scale = nn.Parameter(torch.tensor(2.3))
        self.causal = causal

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        text = self.text
        x = text.token_embedding(ids) + text.positional_embedding
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu_(1) if self.causal else None
        for block in text.transformer["resblocks"]:
            x = block(x, mask)
        end = text.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)]
        return F.normalize(end @ text.text_projection, dim=-1)


def words() -> Tokenizer:
    """The shared tiny tokenizer with CLIP's start and end, and its lower case."""
    made = Tokenizer.from_str(tokenizer().to_str())
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (START, END)])
    made.normalizer = normalizers.Lowercase()
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, VOCAB), (END, VOCAB + 1)]
    )
    return made


def token_ids(texts: list[str]) -> torch.Tensor:
    """As open_clip pads and cuts: zeros behind, and the end always there."""
    ids = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        found = words().encode(text).ids[:CONTEXT]
        found[-1] = VOCAB + 1
        row[: len(found)] = torch.tensor(found)
    return ids


def main(arguments: list[str]) -> None:
    """Save the checkpoint and write what the model answers."""
    folder, form, questions, out = arguments
    name, _, more = form.partition(" ")
    asked = json.loads(Path(questions).read_text())
    torch.manual_seed(0)
    model = Clip(name, causal="causal" in more)
    for key, value in randomize(model).named_parameters():
        if "layer_scale" in key:
            value.data.uniform_(0.3, 1.0)
        if "pos_embed" in key or "cls_token" in key:
            value.data.normal_(0, 0.3)
    model.eval()
    if "folded" in more:
        model.visual["trunk"] = reparameterize_model(model.visual["trunk"])
    save(Path(folder), name, model)
    prepare = transforms.Compose(
        [
            transforms.Resize(SIZE, transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
        ]
    )
    results: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        texts = model.texts(token_ids(asked["texts"]))
        results["texts"] = texts.numpy()
        for n, image in enumerate(asked["images"]):
            pixels = prepare(Image.open(image).convert("RGB"))[None]
            trunk = model.visual["trunk"]
            features = trunk.forward_features(pixels)
            embedding = F.normalize(trunk.forward_head(features), dim=-1)
            if features.ndim == 4:
                features = features.flatten(2).transpose(1, 2)
            results[f"{n}.features"] = features.numpy()
            results[f"{n}.embedding"] = embedding.numpy()
            logits = model.logit_scale.exp() * embedding @ texts.T
            results[f"{n}.chances"] = logits.softmax(-1)[0].numpy()
    np.savez(out, **results)


def save(folder: Path, name: str, model: Clip) -> None:
    """Configuration, safetensors and tokenizer."""
    folder.mkdir(parents=True)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {
                "timm_model_name": name, "timm_model_pretrained": False,
                "timm_pool": "token" if name.startswith("vit") else "avg",
                "timm_proj": None, "image_size": SIZE,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": VOCAB + 2, "width": TEXT, "heads": 3,
                "layers": 2, "no_causal_mask": not model.causal,
            },
            "custom_text": True,
        },
        "preprocess_cfg": {
            "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear",
            "resize_mode": "shortest",
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    words().save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    main(sys.argv[1:])
