"""Texts of a prompt besides the user's: labels as a sentence, what stands around frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevlm.bundle.prompt import LabelPrompt

Labels = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class FrameTexts:
    """A prompt in which pictures follow each other.

    ``head caption before PICTURE after caption before PICTURE after ... ask QUESTION tail``

    Args:
        head: before the first caption.
        before: what the template writes before a picture.
        after: and behind it.
        ask: before the question.
        tail: behind the question, up to where the answer begins.
    """

    head: str
    before: str
    after: str
    ask: str
    tail: str


def write_labels(rule: LabelPrompt, labels: Labels) -> str:
    """The sentence that tells the language model what the encoder saw.

    Args:
        rule: template, and how many labels.
        labels: names with probabilities in [0, 1], best first.
    """
    kept = [
        rule.item.format(name=name, percent=round(100 * probability))
        for n, (name, probability) in enumerate(labels[: rule.top])
        if n == 0 or probability >= rule.min_probability
    ]
    return rule.template.format(labels=", ".join(kept)) if kept else ""
