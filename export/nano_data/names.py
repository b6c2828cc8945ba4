"""What else a person may call a thing: synonyms, the head noun, more general words.

The tables are words only (``synonyms.txt``, ``kinds.txt``). They hold the names of all stamps,
held-out ones too, because an answer is judged by them; nothing in them says what anything looks
like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

_MEASURES = re.compile(
    r"^(?:bunch|string|head|quarter|slice|piece|baby|plant|pair|spool|ball|drop)"
    r" of (?:an? )?(?:common )?"
)


def also_called(name: str) -> tuple[str, ...]:
    """Other names that a person would accept for a thing, the closest first.

    Args:
        name: of a stamp or a pictograph, in lower case: ``great blue heron``.

    Returns:
        ``("heron", "bird", "animal")``; never the name itself. Empty for a name that the table
        does not know.
    """
    general = _general()
    # Not from a synonym: a computer mouse may be called a mouse, and is no animal.
    above = [word for word in (name, _head(name)) if word is not None]
    for word in above:  # grows while it is walked: an eagle is a bird, and a bird an animal
        above += [parent for parent in general.get(word, ()) if parent not in above]
    return tuple(dict.fromkeys((*_close(name), *above)))[1:]


def known_kinds(names: Iterable[str]) -> frozenset[str]:
    """What a model knows by name that has learnt these.

    Args:
        names: of training stamps, pictographs, ImageNet classes ..., with what explains them in
            brackets.

    Returns:
        each with its head noun and its synonyms, in lower case; no more general words.
    """
    known: set[str] = set()
    for name in names:
        for one in re.sub(r"\s*\([^)]*\)", "", name).lower().split(" / "):
            known.update(_close(one))
    return frozenset(known)


def is_known(name: str, known: frozenset[str]) -> bool:
    """Whether a name, its head noun or a synonym of it is among ``known_kinds``."""
    return not known.isdisjoint(_close(name))


def _close(name: str) -> tuple[str, ...]:
    """The name, its head noun where it has one, and synonyms of both."""
    same = _same()
    words = [name]
    head = _head(name)
    if head is not None and head != name:
        words.append(head)
    for word in tuple(words):
        words += [other for other in same.get(word, ()) if other not in words]
    return tuple(words)


def _head(name: str) -> str | None:
    """The longest end of a name that the table has; "hot dog" is there whole, so is no dog."""
    words = _MEASURES.sub("", name).split()
    for start in range(len(words)):
        end = " ".join(words[start:])
        for word in (end, end.removesuffix("s")):
            if word in _words():
                return word
    return None


@lru_cache(maxsize=1)
def _same() -> dict[str, tuple[str, ...]]:
    """Synonyms of a word."""
    found: dict[str, list[str]] = {}
    for line in _lines("synonyms.txt"):
        first, *others = re.split(", | = ", line)
        found.setdefault(first, []).extend(others)
        for word in others if " = " in line else ():
            found.setdefault(word, []).extend(o for o in (first, *others) if o != word)
    return {word: tuple(dict.fromkeys(others)) for word, others in found.items()}


@lru_cache(maxsize=1)
def _general() -> dict[str, tuple[str, ...]]:
    """From a word to the more general ones, one step up."""
    found: dict[str, list[str]] = {}
    for line in _lines("kinds.txt"):
        general, _, special = line.partition(": ")
        for word in special.split(", "):
            found.setdefault(word, []).append(general)
    return {word: tuple(parents) for word, parents in found.items()}


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    """Every word that the table has."""
    general = _general()
    parents = {parent for found in general.values() for parent in found}
    same = _same()
    return frozenset({*general, *parents, *same})


def _lines(file: str) -> list[str]:
    """Of a table beside this module: without its comment, folded lines unfolded."""
    text = files(__package__).joinpath(file).read_text("utf-8")
    return re.sub(r"\n\s+", " ", text).strip().splitlines()[1:]
