"""The shape of a decoder-only language model, independent of any lowering."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RopeScaling(BaseModel):
    """How rotary frequencies are stretched for longer contexts.

    ``linear`` divides every frequency by ``factor``; ``llama3`` leaves the high ones, divides the
    low ones and blends between.

    Source: Llama 3.1 reference, rotary frequency scaling, as in transformers'
    ``modeling_rope_utils``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["linear", "llama3"]
    factor: float = Field(gt=0)
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


class DecoderSpec(BaseModel):
    """Everything a lowering must know besides the weights.

    Args (all counts in units of the thing named):
        hidden_size: width of the residual stream.
        head_dim: width of one head; need not be ``hidden_size / num_heads``.
        num_kv_heads: key/value heads, a divisor of ``num_heads``.
        norm_eps: epsilon of every RMSNorm.
        qk_norm: RMSNorm over each query and key head before the rotation (Qwen3).
        tied_head: the output projection is the embedding table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    vocab_size: int = Field(ge=1)
    max_positions: int = Field(ge=1)
    norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: RopeScaling | None = None
    activation: Literal["silu"] = "silu"
    tied_head: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @model_validator(mode="after")
    def _divides(self) -> DecoderSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for a rotary embedding")
        return self

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def attention_scale(self) -> float:
        """What the query-key product is multiplied by."""
        return 1.0 / math.sqrt(self.head_dim)

    def parameter_count(self) -> int:
        """Weights of the layers and of the embedding (a tied head counts once)."""
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
        mlp = 3 * self.hidden_size * self.intermediate_size
        tables = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        return self.num_layers * (attention + mlp) + tables
