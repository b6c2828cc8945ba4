"""What a checkpoint asks of its own answers, besides their most probable tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgevlm.bundle.images import Strict

TokenId = Annotated[int, Field(ge=0)]


class GenerationRules(Strict):
    """Changes of the logits before a token is chosen, in this order; the defaults change nothing.

    They come from ``generation_config.json``; what it says of sampling is not among them. They see
    the prompt's token ids and the answer's, of an encoder-decoder the decoder's ids alone.
    """

    repetition_penalty: float = Field(
        default=1.0, gt=0, description="divides the logits of tokens seen, multiplies if <0"
    )
    no_repeat_ngram_size: int = Field(
        default=0, ge=0, description="no run of so many tokens comes twice; 0 allows all"
    )
    forced_bos_token_id: TokenId | None = Field(
        default=None, description="behind a prompt of one token"
    )
    forced_eos_token_ids: tuple[TokenId, ...] = Field(
        default=(), description="in the last place that the budget allows"
    )
    suppress_token_ids: tuple[TokenId, ...] = ()
    begin_suppress_token_ids: tuple[TokenId, ...] = Field(
        default=(), description="not as the first token that is free to choose"
    )

    @property
    def idle(self) -> bool:
        """True if they change nothing."""
        return self == GenerationRules()
