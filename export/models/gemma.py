"""Gemma, Gemma 2 and Gemma 3 (text): norms around every part, scaled embeddings, local layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.models.base import TextFamily
from edgevlm.tensors import Float32


def one_more(name: str, value: Float32) -> Float32:
    """Gemma's norms multiply by ``1 + weight``; canonical norms multiply by their weight."""
    return value + 1 if name.endswith("norm.weight") else value


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmaFamily(TextFamily):
    """Gemma; later generations add to it.

    Args:
        generation: 1, 2 or 3.
    """

    generation: int = 1
    # Old configs say "gelu" and mean the approximation.
    activations: tuple[str, ...] = ("gelu_pytorch_tanh", "gelu")
    qkv_bias: bool | None = None
    mlp_bias: bool | None = False
    head_dim: int | None = 256
    tied: bool = True

    def weights(self, checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> View:
        """With the norms' one added."""
        return checkpoint.view(*prefixes, transform=one_more)

    def more(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What Gemma has and Llama has not."""
        fields: dict[str, Any] = {
            "activation": "gelu_tanh",
            "embed_scale": float(config["hidden_size"]) ** 0.5,
        }
        if self.generation == 1:
            return fields
        layers = int(config["num_hidden_layers"])
        every = int(config.get("sliding_window_pattern", 2 if self.generation == 2 else 6))
        kinds = config.get("layer_types") or [
            "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)
        ]
        fields |= {
            "sandwich_norms": True,
            "query_scale": float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
            "sliding_window": int(config.get("sliding_window", 4096)),
            "sliding_layers": tuple(i for i, k in enumerate(kinds) if k == "sliding_attention"),
        }
        if self.generation == 2:
            fields["attention_softcap"] = config.get("attn_logit_softcapping", 50.0)
            fields["logit_softcap"] = config.get("final_logit_softcapping", 30.0)
        else:
            fields["local_rope_theta"] = _local_theta(config)
        return fields


def _local_theta(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or {}
    nested = rope.get("sliding_attention") or {}
    return float(nested.get("rope_theta", config.get("rope_local_base_freq", 10000.0)))


GEMMA = GemmaFamily(model_type="gemma")
GEMMA2 = GemmaFamily(model_type="gemma2", generation=2, activation_key="hidden_activation")
GEMMA3 = GemmaFamily(
    model_type="gemma3_text", generation=3, qk_norm=True, activation_key="hidden_activation"
)
