"""The merged encoder: SAM and CLIP's text model as transformers has them, a head in plain torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.reference.torch_weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

UNUSED = "prompt_encoder.mask_embed."  # masks as prompts: no bundle has them
SHARED = "positional_embedding"  # stored once, under one of two names


class SamClip:
    """A checkpoint as ``docs/sam-clip.md`` lays it out.

    Args:
        checkpoint: its weights.
        config: with every default filled in.
        classes: configuration classes of transformers by section.

    Raises:
        CheckpointError: weights are missing.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], classes: Mapping[str, str]
    ) -> None:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        made = {name: getattr(transformers, cls)(**config[name]) for name, cls in classes.items()}
        text = made.pop("text_config")
        text.projection_dim = int(config["projection_dim"])
        self.sam = transformers.SamModel(transformers.SamConfig(**made)).eval()
        self._text = transformers.CLIPTextModelWithProjection(text).eval()
        for model in (self.sam, self._text):
            fill(model, Weights(checkpoint.view("")), str(checkpoint.folder))
        self._head = Weights(checkpoint.view("semantic_head."))
        self._settings = config["head_config"]
        self._patch = int(config["vision_config"]["patch_size"])

    def picture(self, pixels: Tensor, extent: list[int]) -> dict[str, Tensor]:
        """Outputs of the vision graph by name.

        Args:
            pixels: float32 ``(1, 3, height, width)``.
            extent: height and width of the picture in them.
        """
        kept: list[Tensor] = []
        last = self.sam.vision_encoder.layers[-1]
        handle = last.register_forward_hook(lambda _m, _i, found: kept.append(found))
        try:
            cells = self.sam.get_image_embeddings(pixels)
        finally:
            handle.remove()
        side = kept[0].shape[1]
        x = kept[0].flatten(1, 2)
        for n in range(int(self._settings["num_hidden_layers"])):
            x = self._block(f"layers.{n}", x)
        w, eps = self._head, float(self._settings.get("layer_norm_eps", 1e-5))
        features = w.norm("post_layernorm", x, eps)
        high, wide = (-(-size // self._patch) for size in extent)
        shown = features.unflatten(1, (side, side))[:, :high, :wide].flatten(1, 2)
        maximum = self._settings.get("pool", "max") == "max"
        pooled = shown.amax(1) if maximum else shown.mean(1)
        return {
            "image_embeddings": cells,
            "features": features,
            "patch_embeds": w.f.normalize(w.linear("visual_projection", features), dim=-1),
            "embedding": w.f.normalize(w.linear("visual_projection", pooled), dim=-1),
        }

    def texts(self, ids: Tensor) -> Tensor:
        """Embeddings of length 1, ``(texts, width)``."""
        found: Tensor = self._head.f.normalize(self._text(input_ids=ids).text_embeds, dim=-1)
        return found

    def _block(self, base: str, x: Tensor) -> Tensor:
        w, eps = self._head, float(self._settings.get("layer_norm_eps", 1e-5))
        heads, seen = (
            int(self._settings["num_attention_heads"]),
            w.norm(f"{base}.layer_norm1", x, eps),
        )
        q, k, v = (
            w.linear(f"{base}.self_attn.{n}_proj", seen).unflatten(-1, (heads, -1)).transpose(1, 2)
            for n in "qkv"
        )
        mixed = w.f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + w.linear(f"{base}.self_attn.out_proj", mixed)
        up = w.linear(f"{base}.mlp.fc1", w.norm(f"{base}.layer_norm2", x, eps))
        return x + w.linear(f"{base}.mlp.fc2", self._active(up))

    def _active(self, x: Tensor) -> Tensor:
        from transformers.activations import ACT2FN

        found: Tensor = ACT2FN[self._settings.get("hidden_act", "gelu")](x)
        return found


def fill(model: Any, weights: Weights, where: str) -> None:
    """Put a checkpoint's weights into a model of transformers.

    Raises:
        CheckpointError: some that matter are missing.
    """
    own = model.state_dict()
    stored = {name: weights(name) for name in own if weights.has(name)}
    lost = [
        name
        for name in own
        if name not in stored and not name.startswith(UNUSED) and not name.endswith(SHARED)
        and not name.endswith("position_ids")
    ]  # fmt: skip
    if lost:
        raise CheckpointError(f"{where} lacks {len(lost)} weights: {', '.join(lost[:3])}")
    shared = [value for name, value in stored.items() if name.endswith(SHARED)]
    for name in own:
        if name.endswith(SHARED) and shared:
            stored[name] = shared[0]
    model.load_state_dict(stored, strict=False)
