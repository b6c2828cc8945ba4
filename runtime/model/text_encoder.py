"""Texts through the text encoder: one normalised embedding each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.tokenizer import read_tokenizer
from edgevlm.tensors import Array, Float32

TEXTS_AT_ONCE = 32  # bounds the activations of a long list of labels
LABELS_AT_MOST = 2000  # chosen among at once


class TextEncoder:
    """The bundle's text graph and tokenizer, loaded.

    Args:
        bundle: the bundle.
        backend: loads the graph.

    Raises:
        ContractError: the bundle has no text encoder.
        BundleCorrupt: a damaged tokenizer.
        BackendError: the graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        if manifest.text is None:
            raise ContractError(f"{manifest.name} has no text encoder")
        self._spec = manifest.text
        self._tokenizer = read_tokenizer(bundle)
        self._tokenizer.no_padding()  # what the file says of both is not what the model needs
        self._tokenizer.no_truncation()
        if self._spec.truncate:
            self._tokenizer.enable_truncation(self._spec.context_length)
        self._graph: Graph = backend.load(bundle.path(manifest.graphs["text"].file))
        self._masked = any(t.name == "attention_mask" for t in self._graph.inputs)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embeddings, float32 ``(texts, width)``, each of length 1.

        Raises:
            ContractError: no list of texts, or an empty one.
            ContextOverflow: a text is longer than the context.
        """
        starts = range(0, len(checked_texts(texts)), TEXTS_AT_ONCE)
        feeds = (self.feeds(texts[n : n + TEXTS_AT_ONCE]) for n in starts)
        parts = [self._graph.run(some)["text_embeds"] for some in feeds]
        found: Float32 = np.concatenate(parts)
        return found

    def feeds(self, texts: Sequence[str]) -> dict[str, Array]:
        """What the graph takes for some texts: int64 ``(texts, tokens)`` each.

        Raises:
            ContractError: a text that the tokenizer cannot take.
            ContextOverflow: a text is longer than the context.
        """
        spec = self._spec
        rows = [self._ids(text.lower() if spec.lower_case else text) for text in texts]
        lengths = [len(row) for row in rows]
        if max(lengths) > spec.context_length:
            longest = texts[lengths.index(max(lengths))]
            raise ContextOverflow(
                f"{longest[:60]!r} has {max(lengths)} tokens, and the text encoder takes "
                f"{spec.context_length}: shorten it"
            )
        width = spec.context_length if spec.padding == "context" else max(1, *lengths)
        ids = np.full((len(rows), width), spec.pad_token_id, np.int64)
        mask = np.zeros_like(ids)
        for n, row in enumerate(rows):
            first = width - len(row) if spec.padding_side == "left" else 0
            ids[n, first : first + len(row)] = row
            mask[n, first : first + len(row)] = 1
        return {"input_ids": ids, **({"attention_mask": mask} if self._masked else {})}

    def _ids(self, text: str) -> list[int]:
        written = f" {text}" if self._spec.leading_space else text
        try:
            return list(self._tokenizer.encode(written).ids)
        except Exception as exc:  # the tokenizers library raises plain Exception
            raise ContractError(f"the tokenizer cannot take {text[:60]!r}: {exc}") from exc

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._graph.close()


def checked_texts(texts: Sequence[str]) -> Sequence[str]:
    """The texts themselves.

    Raises:
        ContractError: no list of texts, or an empty one.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ContractError(f"texts must be a list of str, got {type(texts).__name__}")
    if odd := [type(t).__name__ for t in texts if not isinstance(t, str)]:
        raise ContractError(f"texts must be a list of str, got one with {odd[0]}")
    if not texts:
        raise ContractError("texts must be a list of str, got an empty one")
    return texts


def checked_labels(labels: Sequence[str]) -> Sequence[str]:
    """Labels to choose among.

    Raises:
        ContractError: no list of texts, an empty list, more than ``LABELS_AT_MOST``, or a label
            that is empty or there twice.
    """
    checked_texts(labels)
    if len(labels) > LABELS_AT_MOST:
        raise ContractError(
            f"{len(labels)} labels; at most {LABELS_AT_MOST} are chosen among at once: sort them "
            "into kinds first"
        )
    if any(not label.strip() for label in labels):
        raise ContractError(f"label {[bool(n.strip()) for n in labels].index(False) + 1} is empty")
    if len(set(labels)) < len(labels):
        twice = next(n for k, n in enumerate(labels) if n in labels[:k])
        raise ContractError(f"the label {twice!r:.80} is there twice")
    return labels
