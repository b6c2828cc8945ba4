"""The shape of an encoder-decoder language model, independent of any lowering."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Seq2SeqSpec(BaseModel):
    """A BART: learned positions, a norm behind every sum, attention to the encoder's rows.

    The graph ``encoder`` takes the prompt's rows and gives each decoder layer's cross keys and
    values; the graph ``decoder`` takes rows of the answer.

    Args (all counts in units of the thing named):
        hidden_size: width of the residual stream, a multiple of both numbers of heads.
        encoder_ffn_size: width inside the encoder's MLP.
        source_capacity: rows that the encoder has positions for.
        max_positions: tokens that the decoder has positions for.
        norm_eps: epsilon of every LayerNorm.
        tied_head: the output projection is the embedding table.
        embed_scale: token embeddings are multiplied by this, visual rows are not.
        start_token_id: what the decoder begins with, before the answer.

    Source: BART (Lewis et al., 2019), section 2.1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(ge=1)
    encoder_layers: int = Field(ge=1)
    encoder_heads: int = Field(ge=1)
    encoder_ffn_size: int = Field(ge=1)
    decoder_layers: int = Field(ge=1)
    decoder_heads: int = Field(ge=1)
    decoder_ffn_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    source_capacity: int = Field(ge=1)
    max_positions: int = Field(ge=1)
    norm_eps: float = Field(default=1e-5, gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    tied_head: bool
    embed_scale: float = Field(default=1.0, gt=0)
    start_token_id: int = Field(ge=0)

    @model_validator(mode="after")
    def _divides(self) -> Seq2SeqSpec:
        for heads in (self.encoder_heads, self.decoder_heads):
            if self.hidden_size % heads:
                raise ValueError(f"{heads} heads are no divisor of the width {self.hidden_size}")
        if self.start_token_id >= self.vocab_size:
            raise ValueError(
                f"the start token {self.start_token_id} is not in a vocabulary of {self.vocab_size}"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head of the decoder."""
        return self.hidden_size // self.decoder_heads

    @property
    def prefix_attention(self) -> bool:
        """The prompt sees itself in both directions, so no part of it can be kept."""
        return True

    @property
    def deepstack_levels(self) -> int:
        """Nothing is added behind the first layers."""
        return 0

    @property
    def mrope_section(self) -> None:
        """Positions are learned, one a row."""
        return
