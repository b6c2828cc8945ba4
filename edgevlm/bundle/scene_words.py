"""Words that things in pictures are called by: a file of a bundle, which anybody may edit."""

from __future__ import annotations

from pydantic import Field, model_validator

from edgevlm.bundle.images import Strict


class SceneWord(Strict):
    """A word, and what it is the more general word for."""

    word: str = Field(min_length=1)
    forms: tuple[str, ...] = Field(description="as questions may have it, in lower case: plurals")
    kinds: tuple[str, ...] = Field(
        description="names that it fits; it is among them if things are called so"
    )


class SceneWords(Strict):
    """All of them. ``names`` are what a thing is held against; each is a word too."""

    names: tuple[str, ...] = Field(min_length=1)
    words: tuple[SceneWord, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> SceneWords:
        unknown = {kind for word in self.words for kind in word.kinds} - set(self.names)
        if unknown:
            raise ValueError(f"kinds that are no names: {', '.join(sorted(unknown)[:5])}")
        return self
