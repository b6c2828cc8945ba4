"""Text as it is being generated."""

from __future__ import annotations

from tokenizers import Tokenizer

_INCOMPLETE = "\ufffd"


class TextStream:
    """Turns a growing list of tokens into pieces of text, never half a character.

    Only the tokens since the last whole piece are decoded again, so a long answer costs no more
    per token than a short one.

    Args:
        tokenizer: special tokens are left out of the text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # decoding from here gives the right spaces
        self._done = 0  # tokens before this one are already out as text

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token_id)
        before = self._tokenizer.decode(self._ids[self._start : self._done])
        now = self._tokenizer.decode(self._ids[self._start :])
        if now.endswith(_INCOMPLETE) or len(now) <= len(before):
            return ""
        self._start, self._done = self._done, len(self._ids)
        return str(now[len(before) :])

    def flush(self) -> str:
        """What is still held back, as it is."""
        before = self._tokenizer.decode(self._ids[self._start : self._done])
        now = self._tokenizer.decode(self._ids[self._start :])
        self._start = self._done = len(self._ids)
        return str(now[len(before) :])
