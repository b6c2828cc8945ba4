"""What stands where, in the prompt: the words that things are called by, beside nano's weights."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.bundle.scene_words import SceneWords
from edgevlm.errors import CheckpointError
from edgevlm.export.nano.heads import SHOWN
from edgevlm.export.nano.trained_file import RETRAIN

WORDS = "scene_words.json"
SCENE = ScenePrompt(file=WORDS, output=SHOWN)


def read_words(folder: Path) -> str:
    """The file of words, checked.

    Args:
        folder: of the trained weights.

    Raises:
        CheckpointError: no such file, or something else in it.
    """
    path = folder / WORDS
    try:
        return SceneWords.model_validate_json(path.read_text("utf-8")).model_dump_json(indent=0)
    except (OSError, ValidationError) as exc:
        raise CheckpointError(f"{path}, which belongs to nano's weights: {exc}; {RETRAIN}") from exc
