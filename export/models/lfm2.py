"""LFM2: gated short convolutions, and grouped-query attention in every few layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.models.base import TextFamily

_NAMES = {
    "input_layernorm": "operator_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "self_attn.o_proj": "self_attn.out_proj",
    "self_attn.q_norm": "self_attn.q_layernorm",
    "self_attn.k_norm": "self_attn.k_layernorm",
}
_LAYER = re.compile(r"(layers\.\d+\.)(.+)(\.\w+)")
THETA = 1e6


def own_name(name: str) -> str:
    """What LFM2 calls a weight."""
    if found := _LAYER.fullmatch(name):
        layer, module, kind = found.groups()
        return layer + _NAMES.get(module, module) + kind
    return "embedding_norm.weight" if name == "norm.weight" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Lfm2Family(TextFamily):
    """LFM2, dense."""

    def weights(self, checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> View:
        """Under canonical names."""
        return checkpoint.view(*prefixes, rename=own_name)

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        """With the keys that are called otherwise here.

        Raises:
            CheckpointError: as ``TextFamily``.
        """
        known = dict(config)
        known["rms_norm_eps"] = config.get("norm_eps", 1e-5)
        known.setdefault("rope_theta", THETA)
        if "tie_embedding" in config:
            known["tie_word_embeddings"] = config["tie_embedding"]
        try:
            known["intermediate_size"] = _width(config)
        except (TypeError, ValueError) as exc:
            raise CheckpointError(f"config.json of lfm2: the MLP's width: {exc}") from exc
        return TextFamily.spec(self, known)

    def more(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The convolutions."""
        layers = int(config["num_hidden_layers"])
        attending = config.get("full_attn_idxs")
        attending = range(layers) if attending is None else attending
        kinds = config.get("layer_types") or [
            "full_attention" if i in attending else "conv" for i in range(layers)
        ]
        if len(kinds) != layers:
            raise ValueError(f"layer_types names {len(kinds)} layers of {layers}")
        if odd := sorted(set(kinds) - {"full_attention", "conv"}):
            raise ValueError(f"layer_types {odd}: only full_attention and conv are known")
        convolving = tuple(i for i, kind in enumerate(kinds) if kind == "conv")
        if not convolving:
            return {}
        return {
            "conv_layers": convolving,
            "conv_kernel": int(config.get("conv_L_cache", 3)),
            "conv_bias": bool(config.get("conv_bias", False)),
        }


def _width(config: Mapping[str, Any]) -> int:
    """Of the MLP: two thirds of what is written, rounded up, unless the config says otherwise.

    Source: GLU Variants Improve Transformer (Shazeer, 2020), section 2; transformers'
    ``Lfm2MLP``.
    """
    width = int(config.get("block_ff_dim", config.get("intermediate_size", 12288)))
    if not config.get("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    factor = config.get("block_ffn_dim_multiplier", 1.0)
    if factor is None:
        return width
    step = int(config.get("block_multiple_of", 256))
    return -(-int(factor * width) // step) * step


FAMILY = Lfm2Family(
    model_type="lfm2",
    qkv_bias=False,
    o_bias=False,
    mlp_bias=False,
    qk_norm=True,
    tied=True,
)
