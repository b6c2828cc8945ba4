"""What stands where in a picture, as text that a small language model answers from by looking up.

A language model of a hundred million weights neither counts nor compares well, so the text has done
both: things stand from left to right, from top to bottom and by size, and are counted by name.
Training (``export/nano_train``) and the runtime write it with the same function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

UNNAMED = "something"
NOTHING = "Seen: nothing known."
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneThing:
    """One thing of a picture.

    Args:
        name: what it is called; None where nobody can tell.
        colour: of most of it; None where no colour prevails.
        box_xyxy: left, top, right, bottom, as shares of the picture's sides, in [0, 1].
        area: share of the picture that it covers, in [0, 1].
    """

    name: str | None
    colour: str | None
    box_xyxy: tuple[float, float, float, float]
    area: float

    @property
    def called(self) -> str:
        """Its name, or that it is something."""
        return self.name or UNNAMED

    @property
    def middle(self) -> tuple[float, float]:
        """Of its box, x and y in [0, 1]."""
        left, top, right, bottom = self.box_xyxy
        return (left + right) / 2, (top + bottom) / 2


def scene_text(things: Sequence[SceneThing]) -> str:
    """A few short sentences, without a space behind them.

    Args:
        things: in any order.
    """
    if not things:
        return NOTHING
    across = sorted(things, key=lambda t: t.middle[0])
    said = [f"Seen: {', '.join(map(_told, across))}."]
    count = Counter(t.called for t in across)
    if len(count) > 1:
        down = sorted(things, key=lambda t: t.middle[1])
        large = sorted(things, key=lambda t: -t.area)
        said.append(f"Top to bottom: {_names(down)}.")
        said.append(f"Largest first: {_names(large)}.")
    each = ", ".join(f"{name} {number}" for name, number in count.items())
    said.append(f"Count: {each}, in all {len(things)}.")
    return " ".join(said)


def place_of(middle: tuple[float, float]) -> str:
    """Where a point lies, in thirds: ``top left``, ``left``, ``centre`` ..."""
    column, row = (min(2, int(3 * at)) for at in middle)
    if row == 1:
        return _COLUMNS[column]
    return _ROWS[row] if column == 1 else f"{_ROWS[row]} {_COLUMNS[column]}"


def _told(thing: SceneThing) -> str:
    colour = f"{thing.colour} " if thing.colour and thing.colour not in thing.called else ""
    return f"{colour}{thing.called} ({place_of(thing.middle)})"


def _names(things: Sequence[SceneThing]) -> str:
    """Every name once, in the order in which it first comes."""
    return ", ".join(dict.fromkeys(t.called for t in things))
