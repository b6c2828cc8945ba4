"""As much English as questions need: articles, plurals, lists."""

from __future__ import annotations

from collections.abc import Sequence

_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "ox": "oxen", "tooth": "teeth", "foot": "feet",
    "man": "men", "woman": "women", "child": "children", "leaf": "leaves", "loaf": "loaves",
    "knife": "knives", "wolf": "wolves", "calf": "calves", "scarf": "scarves", "fish": "fish",
    "sheep": "sheep", "deer": "deer", "bison": "bison", "shrimp": "shrimp", "corn": "corn",
    "salmon": "salmon", "trout": "trout", "squid": "squid", "fireman": "firemen",
}  # fmt: skip
_COUNTED = ("two ", "three ", "bunch of ", "flock of ")
_SAME = ("scissors", "pliers", "pants", "binoculars", "glasses", "fireworks", "series")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def with_article(name: str) -> str:
    """``an apple``; plurals keep none."""
    if is_plural(name):
        return name
    return ("an " if name[0] in "aeiou" and not name.startswith(("eu", "uni")) else "a ") + name


def is_plural(name: str) -> bool:
    """Whether the name already means several."""
    last = name.split()[-1]
    return name.startswith(_COUNTED[:2]) or (
        last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in ("bus", "gas")
    )


def plural(name: str) -> str:
    """``zebras``, ``bunches of grapes``, ``mice``."""
    head, of, rest = name.partition(" of ")
    if of:
        return plural(head) + of + rest
    before, _, last = name.rpartition(" ")
    if is_plural(name) or last in _SAME:
        return name
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    elif last.endswith(("potato", "tomato", "mango", "hero")):
        last += "es"
    else:
        last += "s"
    return f"{before} {last}".strip()


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
