"""MobileCLIP in plain torch: FastViT with its training branches as they are, and the texts.

Nothing is folded here, and no code is shared with what writes the graphs. timm and open_clip, where
these models come from, are not needed: both would ask for torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.reference.torch_weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

HEAD = 32
VIT_HEAD, VIT_EPS = 64, 1e-6


class MobileClip:
    """A checkpoint's two encoders.

    Args:
        checkpoint: as open_clip saves it.
        text: ``text_cfg`` of its configuration.
    """

    def __init__(self, checkpoint: Checkpoint, text: Mapping[str, Any]) -> None:
        self._trunk = Weights(checkpoint.view("visual.trunk.", "visual."))
        self._text = Weights(checkpoint.view("text.", ""))
        self._heads = int(text.get("heads", 8))
        self._layers = int(text.get("layers", 12))
        self._causal = not text.get("no_causal_mask", False)
        self._quick = bool(checkpoint.config["model_cfg"].get("quick_gelu"))

    def picture(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(batch, cells, channels)``, their mean, and the embedding of length 1."""
        w, x = self._trunk, pixels
        if w.has("cls_token"):
            return _vit(w, x)
        for n, stride in enumerate((2, 2, 1)):
            x = w.f.gelu(mobile_one(w, f"stem.{n}", x, stride))
        stage = 0
        while w.has(f"stages.{stage}.blocks.0.mlp.fc1.weight"):
            x = _stage(w, f"stages.{stage}", x)
            stage += 1
        x = w.f.gelu(_squeeze_excite(w, "final_conv.se", mobile_one(w, "final_conv", x)))
        features = x.flatten(2).transpose(1, 2)
        pooled = features.mean(1)
        layer = "head.fc" if w.has("head.fc.weight") else "head.proj"
        return features, pooled, w.f.normalize(w.linear(layer, pooled), dim=-1)

    def texts(self, ids: Tensor) -> Tensor:
        """Embeddings of length 1, ``(texts, width)``."""
        w = self._text
        x = w("token_embedding.weight")[ids] + w("positional_embedding")[: ids.shape[1]]
        for n in range(self._layers):
            base = f"transformer.resblocks.{n}"
            seen = w.norm(f"{base}.ln_1", x)
            packed, offset = (w(f"{base}.attn.in_proj_{k}") for k in ("weight", "bias"))
            q, k, v = (
                part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
                for part in w.f.linear(seen, packed, offset).chunk(3, -1)
            )
            mixed = w.f.scaled_dot_product_attention(q, k, v, is_causal=self._causal)
            x = x + w.linear(f"{base}.attn.out_proj", mixed.transpose(1, 2).flatten(2))
            up = w.linear(f"{base}.mlp.c_fc", w.norm(f"{base}.ln_2", x))
            up = up * (1.702 * up).sigmoid() if self._quick else w.f.gelu(up)
            x = x + w.linear(f"{base}.mlp.c_proj", up)
        end = w.norm("ln_final", x)[range(len(ids)), ids.argmax(-1)]
        if w.has("text_projection"):
            return w.f.normalize(end @ w("text_projection"), dim=-1)
        return w.f.normalize(w.linear("text_projection", end), dim=-1)


def _vit(w: Weights, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """MobileCLIP-B: a stem of convolutions, a class token without a position, twelve blocks."""
    stem, n = "patch_embed.backbone", 0
    while w.has(f"{stem}.{n}.conv.weight"):
        kernel = w(f"{stem}.{n}.conv.weight")
        bias = w(f"{stem}.{n}.conv.bias") if w.has(f"{stem}.{n}.conv.bias") else None
        x = w.f.conv2d(x, kernel, bias, stride=kernel.shape[-1])
        if w.has(f"{stem}.{n}.bn.weight"):
            x = w.f.gelu(w.batch_norm(f"{stem}.{n}.bn", x))
        n += 1
    rows = x.flatten(2).transpose(1, 2) + w("pos_embed")
    token = w("cls_token").expand(len(rows), -1, -1)
    x, n = w.f.pad(rows, (0, 0, 1, 0)), 0
    x[:, :1] = token
    while w.has(f"blocks.{n}.norm1.weight"):
        base = f"blocks.{n}"
        packed = w.linear(f"{base}.attn.qkv", w.norm(f"{base}.norm1", x, VIT_EPS))
        q, k, v = (
            part.unflatten(-1, (-1, VIT_HEAD)).transpose(1, 2) for part in packed.chunk(3, -1)
        )
        mixed = w.f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + w.linear(f"{base}.attn.proj", mixed)
        up = w.f.gelu(w.linear(f"{base}.mlp.fc1", w.norm(f"{base}.norm2", x, VIT_EPS)))
        x = x + w.linear(f"{base}.mlp.fc2", up)
        n += 1
    features = w.norm("norm", x, VIT_EPS)
    pooled = features[:, 0]
    return features, pooled, w.f.normalize(w.linear("head", pooled), dim=-1)


def mobile_one(w: Weights, base: str, x: Tensor, stride: int = 1) -> Tensor:
    """The sum of a block's branches, or the one convolution that they were folded to."""
    if w.has(f"{base}.reparam_conv.weight"):
        return w.conv(f"{base}.reparam_conv", x, stride)
    found = []
    if w.has(f"{base}.identity.weight"):
        found.append(w.batch_norm(f"{base}.identity", x))
    names = [f"{base}.conv_scale", *(f"{base}.conv_kxk.{n}" for n in range(8))]
    for name in names:
        if w.has(f"{name}.conv.weight"):
            found.append(w.batch_norm(f"{name}.bn", w.conv(f"{name}.conv", x, stride)))
    return _sum(found)


def _stage(w: Weights, base: str, x: Tensor) -> Tensor:
    if w.has(f"{base}.downsample.proj.1.reparam_conv.weight") or w.has(
        f"{base}.downsample.proj.1.conv_kxk.0.conv.weight"
    ):
        x = w.f.gelu(_large_kernel(w, f"{base}.downsample.proj.0", x))
        x = w.f.gelu(mobile_one(w, f"{base}.downsample.proj.1", x))
    if w.has(f"{base}.pos_emb.reparam_conv.weight"):
        x = w.conv(f"{base}.pos_emb.reparam_conv", x)
    elif w.has(f"{base}.pos_emb.pos_enc.weight"):
        x = x + w.conv(f"{base}.pos_emb.pos_enc", x)
    n = 0
    while w.has(f"{base}.blocks.{n}.mlp.fc1.weight"):
        x = _block(w, f"{base}.blocks.{n}", x)
        n += 1
    return x


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _large_kernel(w: Weights, base: str, x: Tensor) -> Tensor:
    if w.has(f"{base}.reparam_conv.weight"):
        y = w.conv(f"{base}.reparam_conv", x, 2)
    else:
        names = [f"{base}.{size}_conv" for size in ("large", "small")]
        parts = [
            w.batch_norm(f"{name}.bn", w.conv(f"{name}.conv", x, 2))
            for name in names
            if w.has(f"{name}.conv.weight")
        ]
        y = _sum(parts)
    return _squeeze_excite(w, f"{base}.se", y) if w.has(f"{base}.se.fc1.weight") else y


def _block(w: Weights, base: str, x: Tensor) -> Tensor:
    mixer = f"{base}.token_mixer"
    if w.has(f"{mixer}.qkv.weight"):
        x = x + _scale(w, f"{base}.layer_scale_1", _attention(w, mixer, _norm(w, base, x)))
        return x + _scale(w, f"{base}.layer_scale_2", _mlp(w, f"{base}.mlp", x))
    if w.has(f"{mixer}.reparam_conv.weight"):
        x = w.conv(f"{mixer}.reparam_conv", x)
    else:
        change = mobile_one(w, f"{mixer}.mixer", x) - mobile_one(w, f"{mixer}.norm", x)
        x = x + _scale(w, f"{mixer}.layer_scale", change)
    return x + _scale(w, f"{base}.layer_scale", _mlp(w, f"{base}.mlp", x))


def _scale(w: Weights, name: str, x: Tensor) -> Tensor:
    return x * w(f"{name}.gamma") if w.has(f"{name}.gamma") else x


def _norm(w: Weights, base: str, x: Tensor) -> Tensor:
    if w.has(f"{base}.norm.running_mean"):
        return w.batch_norm(f"{base}.norm", x)
    return w.norm(f"{base}.norm", x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _mlp(w: Weights, base: str, x: Tensor) -> Tensor:
    x = w.batch_norm(f"{base}.conv.bn", w.conv(f"{base}.conv.conv", x))
    return w.conv(f"{base}.fc2", w.f.gelu(w.conv(f"{base}.fc1", x)))


def _attention(w: Weights, base: str, x: Tensor) -> Tensor:
    rows = x.flatten(2).transpose(1, 2)
    q, k, v = (
        part.unflatten(-1, (-1, HEAD)).transpose(1, 2)
        for part in w.linear(f"{base}.qkv", rows).chunk(3, -1)
    )
    mixed = w.f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return w.linear(f"{base}.proj", mixed).transpose(1, 2).reshape(x.shape)


def _squeeze_excite(w: Weights, base: str, x: Tensor) -> Tensor:
    means = x.mean((2, 3), keepdim=True)
    return x * w.conv(f"{base}.fc2", w.conv(f"{base}.fc1", means).relu()).sigmoid()
