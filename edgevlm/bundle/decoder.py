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
        qk_norm: RMSNorm over each query and key head before the rotation (Qwen3, Gemma 3).
        tied_head: the output projection is the embedding table.
        embed_scale: token embeddings are multiplied by this, visual rows are not (Gemma).
        query_scale: replaces ``1 / sqrt(head_dim)``.
        attention_softcap: scores become ``cap * tanh(score / cap)`` (Gemma 2).
        logit_softcap: likewise for the logits.
        sandwich_norms: RMSNorm also behind attention and MLP (Gemma 2 and 3).
        sliding_window: positions that a sliding layer sees, itself included.
        sliding_layers: which layers slide.
        local_rope_theta: rotary base of the sliding layers, where it is another one (Gemma 3).
        mrope_section: rotary pairs that follow time, row and column (Qwen-VL).
        mrope_interleaved: the three take turns instead of lying behind each other (Qwen3-VL).
        deepstack_levels: how many first layers add features of the vision encoder (Qwen3-VL).
        prefix_attention: the prompt sees itself in both directions (PaliGemma).
        conv_layers: which layers mix positions by a gated short convolution instead of attention
            (LFM2).
        conv_kernel: positions that such a layer sees, its own included.
        conv_bias: its projections and its convolution have biases.
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
    activation: Literal["silu", "gelu_tanh"] = "silu"
    tied_head: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    embed_scale: float = Field(default=1.0, gt=0)
    query_scale: float | None = Field(default=None, gt=0)
    attention_softcap: float | None = Field(default=None, gt=0)
    logit_softcap: float | None = Field(default=None, gt=0)
    sandwich_norms: bool = False
    sliding_window: int | None = Field(default=None, ge=1)
    sliding_layers: tuple[int, ...] = ()
    local_rope_theta: float | None = Field(default=None, gt=0)
    mrope_section: tuple[int, int, int] | None = None
    mrope_interleaved: bool = False
    deepstack_levels: int = Field(default=0, ge=0)
    prefix_attention: bool = False
    conv_layers: tuple[int, ...] = ()
    conv_kernel: int | None = Field(default=None, ge=2)
    conv_bias: bool = False

    @model_validator(mode="after")
    def _divides(self) -> DecoderSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for a rotary embedding")
        if self.sliding_layers and self.sliding_window is None:
            raise ValueError("sliding layers need a sliding_window")
        if self.conv_layers and self.conv_kernel is None:
            raise ValueError("convolution layers need a conv_kernel")
        if odd := sorted(i for i in self.conv_layers if not 0 <= i < self.num_layers):
            raise ValueError(f"convolution layers {odd} of {self.num_layers} layers")
        if len(set(self.conv_layers)) == self.num_layers:
            raise ValueError(f"none of the {self.num_layers} layers attends: one must")
        if self.mrope_section is not None and 2 * sum(self.mrope_section) != self.head_dim:
            raise ValueError(
                f"mrope_section {self.mrope_section} does not make head_dim {self.head_dim}"
            )
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
        return 1.0 / math.sqrt(self.head_dim) if self.query_scale is None else self.query_scale

    def slides(self, layer: int) -> bool:
        """True if the layer sees only the last ``sliding_window`` positions."""
        return layer in self.sliding_layers

    def convolves(self, layer: int) -> bool:
        """True if the layer is a gated short convolution."""
        return layer in self.conv_layers

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers that have keys and values."""
        return tuple(i for i in range(self.num_layers) if not self.convolves(i))

    def theta(self, layer: int) -> float:
        """Rotary base of one layer."""
        local = self.local_rope_theta if self.slides(layer) else None
        return self.rope_theta if local is None else local

    def parameter_count(self) -> int:
        """Weights of the layers and of the embedding (a tied head counts once)."""
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
        mlp = 3 * self.hidden_size * self.intermediate_size
        tables = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        convolution = 4 * self.hidden_size**2 + self.hidden_size * (self.conv_kernel or 0)
        convolving = len(set(self.conv_layers))
        mixing = (self.num_layers - convolving) * attention + convolving * convolution
        return mixing + self.num_layers * mlp + tables
