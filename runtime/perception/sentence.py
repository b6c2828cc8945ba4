"""A finding in words, without a language model: nothing in it is made up."""

from __future__ import annotations

from collections.abc import Sequence

from edgevlm.runtime.perception.anomaly import Anomaly, NormalBank
from edgevlm.runtime.perception.locate import Located

_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


def sentence(found: Anomaly, bank: NormalBank) -> str:
    """One sentence: how many places, where the worst one is, score and limit."""
    count = bank.rule.pictures
    good = f"the {count} good pictures" if count > 1 else "the good picture"
    figures = f"score {found.score:.2f}, limit {found.threshold:.2f}"
    if not found.unlike:
        return f"Like {good} ({figures})."
    places = len(found.regions)
    if not places:
        return f"Unlike {good} in no one place ({figures})."
    where = position(found.regions[0].box_xyxy, found.seen.source)
    if places == 1:
        return f"Unlike {good} in one place, {where} ({figures})."
    return f"Unlike {good} in {places} places, most of all {where} ({figures})."


def things_seen(found: Sequence[Located], source: tuple[int, int]) -> str:
    """One sentence: what was found, and where; ``source`` is the picture's height and width."""
    if not found:
        return "None of the known things is here."
    places = [f"{one.name} {position(one.box_xyxy, source)}" for one in found]
    return f"Seen: {', '.join(places)}."


def position(box_xyxy: tuple[float, float, float, float], source: tuple[int, int]) -> str:
    """Where the middle of a box lies in a picture of ``(height, width)``, in thirds."""
    left, top, right, bottom = box_xyxy
    row = min(2, int(3 * (top + bottom) / 2 / source[0]))
    column = min(2, int(3 * (left + right) / 2 / source[1]))
    return "in the centre" if row == column == 1 else f"{_ROWS[row]} {_COLUMNS[column]}"
