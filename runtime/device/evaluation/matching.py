"""Whether an answer is right: the only liberties that it may take.

An answer and what is accepted are compared word by word, without case, punctuation and articles,
number words as digits, the ``s`` of a plural aside. An answer of the same words is right. Else

- where yes or no is accepted, the answer's first word decides,
- where a number is, the first number in the answer,
- where a refusal is ("I cannot tell"), that it refuses; elsewhere a refusal is wrong,
- and otherwise the first thing that the answer names, of all that questions of this kind are
  answered with: "a dog, or a cat" names a dog. What stands behind "no" or "not" is not named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import lru_cache

REFUSALS = (
    "cannot tell", "cannot see", "cannot be seen", "cannot be told", "cannot be answered",
    "cannot know", "not visible", "not shown", "not in picture", "there is no", "there are no",
    "unknown", "do not know",
)  # fmt: skip
_YES_NO = (("yes",), ("no",))
_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
)  # fmt: skip
_DIGITS = {word: str(value) for value, word in enumerate(_NUMBERS)}
_LEFT_OUT = ("a", "an", "the")
_WRITTEN_OUT = (("can't", "cannot"), ("can not", "cannot"), ("n't", " not"))
_PIECE = re.compile(r"(?:(?<!\w)-)?\d+(?:[.,]\d+)*|[^\W_]+")
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
_NEGATING = ("no", "not", "without")
Words = tuple[str, ...]


@lru_cache(maxsize=8192)
def words(text: str) -> Words:
    """What of a text is compared."""
    plain = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for short, long in _WRITTEN_OUT:
        plain = plain.replace(short, long)
    pieces = (_DIGITS.get(piece, piece) for piece in _PIECE.findall(plain))
    return tuple(_singular(piece) for piece in pieces if piece not in _LEFT_OUT)


def is_right(answer: str, accepted: Sequence[str], others: Collection[str] = ()) -> bool:
    """Whether an answer is one of those accepted.

    Args:
        answer: the model's.
        accepted: at least one; the first says by which rule.
        others: what else questions of this kind are answered with.
    """
    said, right = words(answer), [words(one) for one in accepted]
    if said in right:
        return True
    if right[0] in _YES_NO:
        return said[:1] == right[0]
    if (value := _number(right[0])) is not None:
        found = (_number((piece,)) for piece in said)
        return next((n for n in found if n is not None), None) == value
    if is_refusal(accepted[0]) or is_refusal(answer):
        return is_refusal(accepted[0]) and is_refusal(answer)
    named = named_in(answer, [*accepted, *others])
    return bool(named) and words(named[0]) in right


def named_in(answer: str, names: Collection[str]) -> list[str]:
    """Which names stand in an answer, in its order: of several in one place the longest.

    What stands behind a negation is not named.
    """
    said, found, at = words(answer), [], 0
    phrases = {words(name): name for name in names}
    while at < len(said):
        here = [phrase for phrase in phrases if _standing(said, at, phrase)]
        longest = max(here, key=len, default=said[at : at + 1])
        if here and not (at and said[at - 1] in _NEGATING):
            found.append(phrases[longest])
        at += len(longest)
    return found


def is_refusal(answer: str) -> bool:
    """Whether an answer says that there is none."""
    said = words(answer)
    return any(_standing(said, at, words(r)) for r in REFUSALS for at in range(len(said)))


def answered_by(accepted: Sequence[str]) -> str:
    """By which rule a question is decided: ``yes-no``, ``number``, ``refusal`` or ``words``."""
    first = words(accepted[0])
    if first in _YES_NO:
        return "yes-no"
    if _number(first) is not None:
        return "number"
    return "refusal" if is_refusal(accepted[0]) else "words"


def _standing(said: Words, at: int, phrase: Words) -> bool:
    return bool(phrase) and said[at : at + len(phrase)] == phrase


def _number(phrase: Words) -> Decimal | None:
    if len(phrase) != 1 or not _NUMBER.fullmatch(phrase[0]):
        return None
    return Decimal(phrase[0].replace(",", "."))


def _singular(piece: str) -> str:
    return piece[:-1] if len(piece) > 3 and piece.endswith("s") and piece[-2] != "s" else piece
