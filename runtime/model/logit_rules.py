"""What a checkpoint asks of its answers, applied to the logits of one answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgevlm.bundle import Manifest
from edgevlm.bundle.generation import GenerationRules
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.tensors import Float32


class LogitRules:
    """The rules of one answer, which remember its tokens.

    Args:
        rules: of the bundle.
        history: token ids before the answer: the prompt, or what an encoder-decoder's decoder
            starts with. An id outside the vocabulary stands for a row that is no token.
        budget: tokens that the answer may have.

    Source: transformers' ``LogitsProcessor`` classes, in the order of ``generate``. The repetition
    penalty is from CTRL (Keskar et al., 2019), section 4.1.
    """

    def __init__(self, rules: GenerationRules, history: Sequence[int], budget: int) -> None:
        self._rules = rules
        self._idle = rules.idle
        self._ids: list[int] = []
        self._followers: dict[tuple[int, ...], list[int]] = {}
        self.cut = False  # the end was forced although the model had more to say
        if self._idle:
            return
        for token in history:
            self.said(token)
        self._forced_end = len(history) + budget - 1
        late = len(history) == 1 and rules.forced_bos_token_id is not None
        self._begin = len(history) + int(late)

    @classmethod
    def of(cls, manifest: Manifest, prompt: Sequence[int], budget: int) -> LogitRules:
        """The rules of a bundle with a language model, for one prompt."""
        spec, _, section = manifest.language
        start = [spec.start_token_id] if isinstance(spec, Seq2SeqSpec) else prompt
        return cls(section.rules, start, budget)

    def said(self, token: int) -> None:
        """Append a token to what the rules have seen."""
        if self._idle:
            return
        self._ids.append(token)
        size = self._rules.no_repeat_ngram_size
        if size and len(self._ids) >= size:
            *start, last = self._ids[-size:]
            self._followers.setdefault(tuple(start), []).append(last)

    def apply(self, logits: Float32) -> Float32:
        """The logits to choose a token from, float32 ``(vocab_size,)``; the given ones stay."""
        if self._idle:
            return logits
        rules, scores = self._rules, np.array(logits, np.float32)
        if rules.repetition_penalty != 1.0:
            seen = _inside(set(self._ids), scores)
            values = scores[seen]
            penalty = np.float32(rules.repetition_penalty)
            scores[seen] = np.where(values < 0, values * penalty, values / penalty)
        if rules.no_repeat_ngram_size:
            scores[_inside(self._repeating(), scores)] = -np.inf
        if rules.forced_bos_token_id is not None and len(self._ids) == 1:
            scores = _only([rules.forced_bos_token_id], scores)
        if rules.forced_eos_token_ids and len(self._ids) == self._forced_end:
            self.cut = int(scores.argmax()) not in rules.forced_eos_token_ids
            scores = _only(rules.forced_eos_token_ids, scores)
        scores[_inside(rules.suppress_token_ids, scores)] = -np.inf
        if len(self._ids) == self._begin:
            scores[_inside(rules.begin_suppress_token_ids, scores)] = -np.inf
        return scores

    def _repeating(self) -> list[int]:
        """Tokens that would end a run which was there before."""
        start = len(self._ids) + 1 - self._rules.no_repeat_ngram_size
        return self._followers.get(tuple(self._ids[start:]), []) if start >= 0 else []


def _inside(tokens: Iterable[int], scores: Float32) -> list[int]:
    return [t for t in tokens if 0 <= t < len(scores)]


def _only(tokens: Sequence[int], scores: Float32) -> Float32:
    chosen: Float32 = np.full_like(scores, -np.inf)
    chosen[_inside(tokens, scores)] = 0
    return chosen
