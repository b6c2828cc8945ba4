"""How sure the model was of each value of a JSON answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """One token that the model chose.

    Args:
        start: bytes of the answer in front of it.
        stop: bytes of the answer with it.
        legal: the tokens' bytes and probabilities, among those that the grammar allowed here. All
            of them, or of very many the chosen one's alone.
    """

    start: int
    stop: int
    legal: tuple[tuple[bytes, float], ...]


def field_scores(text: str, choices: Sequence[Choice]) -> dict[str, float]:
    """The probability of every value in the answer, among the values legal in its place.

    A value is the product of the choices inside it; in each, every token counts that the value
    could have gone on with, so that it does not matter how a word is cut into tokens.

    Args:
        text: the answer, JSON without spaces.
        choices: in their order.

    Returns:
        JSON pointer (RFC 6901) of every value that is no object and no array -> probability in
        [0, 1]. A value that the grammar left no choice about has 1.
    """
    raw, found = text.encode(), {}
    for pointer, start, stop in _values(text):
        first, last = len(text[:start].encode()), len(text[:stop].encode())
        number = text[stop - 1].isdigit()  # which also had to end here
        score = 1.0
        for choice in choices:
            if choice.stop > first and (choice.start < last or (number and choice.start == last)):
                fits = (p for piece, p in choice.legal if raw.startswith(piece, choice.start))
                score *= min(1.0, sum(fits))
        found[pointer] = score
    return found


def _values(text: str) -> Iterator[tuple[str, int, int]]:
    """Pointer, begin and end of every value that is no object and no array."""
    decoder = json.JSONDecoder()

    def walk(pointer: str, at: int) -> Iterator[tuple[str, int, int]]:
        if text[at] not in "{[":
            stop = decoder.raw_decode(text, at)[1]
            yield pointer, at, stop
            ends.append(stop)
            return
        named, number = text[at] == "{", 0
        at += 1
        while text[at] not in "}]":
            key = str(number)
            if named:
                key, at = decoder.raw_decode(text, at)
                key, at = key.replace("~", "~0").replace("/", "~1"), at + 1
            yield from walk(f"{pointer}/{key}", at)
            at, number = ends.pop(), number + 1
            at += text[at] == ","
        ends.append(at + 1)

    ends: list[int] = []
    yield from walk("", 0)
