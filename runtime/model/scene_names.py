"""What things are called: by the text encoder, in words as general as it is unsure.

A thing whose name is not clear gets the most special word that fits enough of the likely ones: not
"magpie" but "bird". What a question names is looked for by its own embedding.

Source: Hedging Your Bets (Deng et al., 2012), section 3: the most specific node of the hierarchy
whose posterior exceeds a threshold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.bundle.scene_words import SceneWords
from edgevlm.tensors import Float32

_NONE: Mapping[int, str] = MappingProxyType({})
_NOT_LETTERS = re.compile(r"[^a-z0-9]+")


class SceneNames:
    """Words with their embeddings.

    Args:
        words: of the bundle.
        rule: thresholds.
        embed: texts to float32 ``(texts, width)``, each of length 1.
        scale: of cosines.
    """

    def __init__(
        self,
        words: SceneWords,
        rule: ScenePrompt,
        embed: Callable[[Sequence[str]], Float32],
        scale: float,
    ) -> None:
        self._rule, self._scale = rule, np.float32(scale)
        self._words = [w.word for w in words.words]
        self._forms = {f" {form} ": n for n, w in enumerate(words.words) for form in w.forms}
        self._names = embed(words.names)
        self._texts = embed(self._words)
        place = {name: n for n, name in enumerate(words.names)}
        self._fits = np.zeros((len(self._words), len(words.names)), np.float32)
        for n, word in enumerate(words.words):
            self._fits[n, [place[kind] for kind in word.kinds]] = 1
        fitted = self._fits.sum(1)
        self._special = [n for n in np.argsort(fitted, kind="stable") if fitted[n]]

    def asked(self, question: str) -> list[int]:
        """Numbers of the words that a question names, the longest where one holds another."""
        text = f" {_NOT_LETTERS.sub(' ', question.lower()).strip()} "
        found = [form for form in self._forms if form in text]
        longest = [f for f in found if not any(f != o and f in o for o in found)]
        return list(dict.fromkeys(self._forms[f] for f in sorted(longest, key=text.index)))

    def names(
        self, looks: Float32, question: str, known: Mapping[int, str] = _NONE
    ) -> list[str | None]:
        """What some things are called, None where nobody can tell.

        Args:
            looks: float32 ``(things, width)``, each a mean of embeddings, at most 1 long.
            question: what is asked about them; what it names is looked for.
            known: names of some of them by number, from elsewhere.
        """
        if not len(looks):
            return []
        scores = self._scale * looks @ self._names.T
        chance = np.exp(scores - scores.max(1, keepdims=True))
        total = chance.sum(1, keepdims=True)
        fitting = (chance / total) @ self._fits.T
        found = [known.get(n) or self._clear(row) for n, row in enumerate(fitting)]
        log_total = np.log(total) + scores.max(1, keepdims=True)
        asked = self.asked(question)
        fit = self._scale * self._texts[asked] @ looks.T - log_total[:, 0]
        unit = looks / np.linalg.norm(looks, axis=1, keepdims=True)
        for word, things in _assigned(fit, unit @ unit.T, self._rule).items():
            for n in things:
                found[n] = self._words[asked[word]]
        return found

    def _clear(self, fitting: Float32) -> str | None:
        for word in self._special:
            if fitting[word] >= self._rule.named:
                return str(self._words[word])
        return None


def _assigned(fit: Float32, alike: Float32, rule: ScenePrompt) -> dict[int, list[int]]:
    """Which things each word means, no thing twice: the best pair first.

    Args:
        fit: log chances, float32 ``(words, things)``.
        alike: cosines, float32 ``(things, things)``.
        rule: thresholds.
    """
    left = fit.copy()
    found: dict[int, list[int]] = {}
    while left.size and left.max() >= rule.asked:
        word, best = (int(n) for n in np.unravel_index(left.argmax(), left.shape))
        same = (alike[best] >= rule.alike) & np.isfinite(left[word])
        same &= fit[word] >= fit.max(0, initial=rule.asked)  # no other word says it better
        same[best] = True
        found[word] = np.flatnonzero(same).tolist()
        left[word] = -np.inf
        left[:, same] = -np.inf
    return found
