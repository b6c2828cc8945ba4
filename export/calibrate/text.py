"""The calibration text, as tokens of a model."""

from __future__ import annotations

from importlib.resources import files

from tokenizers import Tokenizer

FILE = "text.txt"  # questions, and what SmolLM2-135M-Instruct said to them at temperature 1


def calibration_ids(tokenizer: Tokenizer, vocab_size: int, most: int) -> tuple[int, ...]:
    """The text as at most so many token ids, those that the model has no row for left out."""
    text = files(__package__).joinpath(FILE).read_text("utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return tuple(i for i in ids if i < vocab_size)[:most]
