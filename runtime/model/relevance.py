"""How well pictures fit a question, as far as the bundle itself can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from edgevlm.tensors import Array, Float32

_FUNCTION_WORDS = frozenset(("a", "and", "at", "for", "in", "of", "on", "or", "the", "to", "with"))


def named_classes(question: str, names: Sequence[str]) -> list[int]:
    """Numbers of the classes that share a word with the question; plurals count as singular."""
    asked = _words(question)
    return [n for n, name in enumerate(names) if asked & _words(name)]


def by_classes(chances: Array, classes: Sequence[int]) -> float:
    """Probability of ``classes`` together, from those of all classes."""
    return float(chances.reshape(-1)[list(classes)].sum())


def by_embedding(embedding: Array, text: Float32) -> float:
    """Cosine between a frame's embedding and a text's, ``(width,)``, the text's of length 1.

    Source: the choice of frames in Free Video-LLM (Han et al., 2024, arXiv:2410.10441).
    """
    row = embedding.reshape(-1)
    return float(row @ text / max(float(np.linalg.norm(row)), 1e-12))


def _words(text: str) -> set[str]:
    found = {word for word in re.findall(r"[a-z]+", text.lower()) if word not in _FUNCTION_WORDS}
    return found | {word[:-1] for word in found if len(word) > 3 and word.endswith("s")}
