"""What the manifest says of a text encoder, read from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from edgevlm.bundle.text import TextSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint


def text_spec(
    checkpoint: Checkpoint,
    text: Mapping[str, Any],
    *,
    width: int,
    pad: str,
    padding: Literal["longest", "context"],
    side: Literal["left", "right"] = "right",
    truncate: bool = False,
    lower_case: bool = False,
    scores: Literal["softmax", "sigmoid"],
    template: str,
) -> TextSpec:
    """The section ``text``.

    Args:
        checkpoint: with tokenizer and the logit scale.
        text: configuration of the text encoder.
        width: of an embedding.
        pad: the padding token where ``tokenizer_config.json`` names none.
        padding: see ``TextSpec``.
        side: where the padding stands, unless ``tokenizer_config.json`` says so.
        truncate: see ``TextSpec``.
        lower_case: see ``TextSpec``; ``do_lower_case`` of ``tokenizer_config.json`` counts too.
        scores: see ``TextSpec``.
        template: see ``TextSpec``.

    Raises:
        CheckpointError: tokenizer and weights do not belong together.
    """
    rows, tokenizer = int(text["vocab_size"]), checkpoint.tokenizer
    if (count := tokenizer.get_vocab_size()) > rows:
        raise CheckpointError(
            f"{checkpoint.folder}: the tokenizer has {count} tokens and the text encoder {rows}: "
            "copy tokenizer and weights from one model"
        )
    settings, learned = checkpoint.tokenizer_config, checkpoint.view("")
    bias = float(learned.get("logit_bias").reshape(())) if learned.has("logit_bias") else 0.0
    return TextSpec(
        context_length=int(text["max_position_embeddings"]),
        width=width,
        pad_token_id=_pad_id(checkpoint, text, pad),
        padding=padding,
        padding_side="left" if settings.get("padding_side", side) == "left" else "right",
        truncate=truncate,
        lower_case=lower_case or settings.get("do_lower_case") is True,
        scores=scores,
        logit_scale=float(np.exp(learned.get("logit_scale").astype(np.float64)).reshape(())),
        logit_bias=bias,
        template=template,
    )


def has_mask(checkpoint: Checkpoint) -> bool:
    """Whether the text encoder is told which tokens are padding: tokenizers do unless they say."""
    names = checkpoint.tokenizer_config.get("model_input_names")
    return "attention_mask" in names if isinstance(names, list) else True


def check_end(checkpoint: Checkpoint, end: int | None) -> None:
    """Hold the end token that the encoder pools at against what the tokenizer writes.

    Args:
        checkpoint: with its tokenizer.
        end: the id; None where the largest id counts, which must then be the last.

    Raises:
        CheckpointError: texts do not end with it.
    """
    ids = checkpoint.tokenizer.encode("a small boat").ids
    wanted = max(ids, default=None) if end is None else end
    if not ids or ids[-1] != wanted:
        raise CheckpointError(
            f"{checkpoint.folder}: the text encoder takes its embedding at the end token "
            f"({wanted}), and the tokenizer ends a text with {ids[-1:] or 'nothing'}: copy the "
            "tokenizer of the model this one was tuned from"
        )


def _pad_id(checkpoint: Checkpoint, text: Mapping[str, Any], default: str) -> int:
    for name in (checkpoint.named_token("pad_token"), default):
        found = None if name is None else checkpoint.tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    value = text.get("pad_token_id")
    return int(value) if isinstance(value, int) else 0
