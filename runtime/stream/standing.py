"""The answer that stands for the scene, and how often that is told."""

from __future__ import annotations

from edgevlm.answer import Answer


class Standing:
    """What later frames of the same scene are given.

    Args:
        every_s: it is told again at most so often, in seconds of the source.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told_s: float | None = None
        self.answer: Answer | None = None
        self.seq = 0

    def answered(self, answer: Answer | None, seq: int, now_s: float) -> None:
        """An answer was told; None does not stand: it was cut short, or its model is gone."""
        self.answer, self.seq, self._told_s = answer, seq, now_s

    def tell(self, now_s: float) -> bool:
        """True if it is to be told once more now."""
        if self._told_s is not None and now_s - self._told_s < self._every_s:
            return False
        self._told_s = now_s
        return True
