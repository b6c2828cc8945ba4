"""From cosines of one picture with texts to probabilities of labels, and of none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.text import NoneSpec, TextSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.model.text_encoder import checked_texts
from edgevlm.tensors import Float32

NONE = "none of these"
# What a picture is told to be in a bundle that declares nothing: no label, and no kind of thing.
GENERAL = NoneSpec(texts=("something else", "an object", "a picture", "a background"))


def probabilities(embedding: Float32, text_embeds: Float32, spec: TextSpec) -> Float32:
    """The model's own probabilities ``(texts,)`` of one picture's embedding ``(width,)``."""
    logits = _logits(embedding, text_embeds, spec)
    if spec.scores == "softmax":
        return _softmax(logits).astype(np.float32)
    return _sigmoid(logits).astype(np.float32)


def with_none(
    embedding: Float32, label_embeds: Float32, none_embeds: Float32, spec: TextSpec, none: NoneSpec
) -> Float32:
    """Probabilities of labels and, behind them, of none.

    Where the model chooses among texts, "none" is one more choice, as likely as the texts that
    stand for it are on average, and all together are 1. Where it judges each text by itself, none
    is there as far as no label is.

    Args:
        embedding: float32 ``(width,)``, of the picture.
        label_embeds: float32 ``(labels, width)``.
        none_embeds: float32 ``(texts, width)``; not looked at where texts are judged by themselves.
        spec: how texts are scored.
        none: how none is.

    Returns:
        float32 ``(labels + 1,)``.
    """
    logits = _logits(embedding, label_embeds, spec) / none.temperature
    if spec.scores == "sigmoid":
        each = _sigmoid(logits - none.bias)
        return np.append(each, np.prod(1 - each)).astype(np.float32)
    others = _logits(embedding, none_embeds, spec) / none.temperature
    top = others.max()
    other = top + np.log(np.exp(others - top).mean()) + none.bias
    return _softmax(np.append(logits, other)).astype(np.float32)


def none_of(asked: bool | Sequence[str], spec: TextSpec) -> NoneSpec | None:
    """How none is scored: not at all, as the bundle declares it, or with texts that were given.

    Raises:
        ContractError: no list of texts, or an empty one.
    """
    if isinstance(asked, bool):
        return (spec.none or GENERAL) if asked else None
    texts = tuple(checked_texts(asked))
    if any(not text.strip() for text in texts):
        raise ContractError("a text that stands for none of the labels is empty")
    return (spec.none or GENERAL).model_copy(update={"texts": texts})


def _logits(embedding: Float32, text_embeds: Float32, spec: TextSpec) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (
        spec.logit_scale * (text_embeds @ embedding).astype(np.float64) + spec.logit_bias
    )
    return found


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    found: NDArray[np.float64] = raised / raised.sum()
    return found


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))  # never overflows
    return found
