"""How texts reach the text encoder, and how its embeddings are held against a picture's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgevlm.bundle.images import Strict

SLOT = "{}"


class NoneSpec(Strict):
    """How "none of these" is scored beside labels: by texts that stand for whatever else there is.

    Logits of labels and texts are divided by ``temperature``; ``bias`` makes none likelier. Both
    are fitted on pictures of known and of other things, or stand at 1 and 0.
    """

    texts: tuple[str, ...] = Field(min_length=1, description="as they are, without the template")
    temperature: float = Field(default=1.0, gt=0)
    bias: float = 0.0


class TextSpec(Strict):
    """The graph ``text``: token ids in, one normalised embedding a text out.

    Its input is ``input_ids`` int64 ``(batch, tokens)``, and ``attention_mask`` of the same shape
    where the model was trained with one; its output is ``text_embeds`` float32 ``(batch, width)``,
    of length 1. A picture's score is ``logit_scale * cosine + logit_bias``, and its probability
    the ``softmax`` over the texts or the ``sigmoid`` of each.

    Source: CLIP (Radford et al., 2021), section 2.3; SigLIP (Zhai et al., 2023), section 3.2.
    """

    context_length: int = Field(ge=1, description="tokens that a text may have")
    width: int = Field(ge=1, description="of an embedding")
    pad_token_id: int = Field(ge=0)
    padding: Literal["longest", "context"] = Field(
        description="to the longest text of a call, or always to the whole context"
    )
    padding_side: Literal["left", "right"] = "right"
    truncate: bool = Field(default=False, description="cut longer texts; else they are refused")
    lower_case: bool = Field(
        default=False, description="texts become lower case before the tokenizer sees them"
    )
    leading_space: bool = Field(
        default=False, description="texts are tokenised as words in a sentence, behind a space"
    )
    scores: Literal["softmax", "sigmoid"]
    logit_scale: float = Field(gt=0)
    logit_bias: float = 0.0
    template: str = Field(default="a photo of a {}", description="around a label")
    none: NoneSpec | None = Field(default=None, description="calibrated for none of the labels")

    @model_validator(mode="after")
    def _has_slot(self) -> TextSpec:
        if SLOT not in self.template:
            raise ValueError(f"the template {self.template!r} has no place {SLOT} for the label")
        return self
