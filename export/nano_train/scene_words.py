"""The words that the runtime may call things by: those of training, and the encoder's classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgevlm.bundle.scene_words import SceneWord, SceneWords
from edgevlm.export.nano_data.english import plural
from edgevlm.export.nano_data.names import also_called


def scene_words(names: Sequence[str], classes: Sequence[str]) -> SceneWords:
    """Names with their synonyms and more general words, each in its plural too.

    Args:
        names: that things are held against.
        classes: further words that a question may ask for.
    """
    kinds: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        for word in {name, *also_called(name)}:
            kinds.setdefault(word, []).append(name)
    for name in classes:
        for one in re.sub(r"\s*\([^)]*\)", "", name).lower().split(" / "):
            for word in {one, *also_called(one)}:
                kinds.setdefault(word, [])
    return SceneWords(
        names=tuple(sorted(set(names))),
        words=tuple(
            SceneWord(word=word, forms=tuple(dict.fromkeys((word, plural(word)))), kinds=tuple(fit))
            for word, fit in sorted(kinds.items())
        ),
    )
