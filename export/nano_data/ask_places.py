"""Where, which is larger, what is in a box."""

from __future__ import annotations

import json

from edgevlm.export.nano_data.asked_scene import (
    APART,
    AskedScene,
    area_of,
    centre,
    the,
)
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import Question, SeenThing

_LARGER = 1.5  # times the area


def ask_side(scene: AskedScene) -> Question | None:
    """On which side of the picture a thing is."""
    across = scene.rng.random() < 0.6
    size, n = (scene.width, 0) if across else (scene.side, 1)
    apart = [t for t in scene.named if abs(centre(t)[n] / size - 0.5) > APART]
    if not apart:
        return None
    thing = scene.pick(apart)
    before = centre(thing)[n] < size / 2
    if across:
        form = scene.said(
            "Is {the} on the left or on the right?", "On which side is {the}, left or right?"
        )
        answer = "left" if before else "right"
        accepted: tuple[str, ...] = (f"on the {answer}",)
    else:
        form = scene.said("Is {the} at the top or at the bottom?", "Where is {the}, top or bottom?")
        answer = "top" if before else "bottom"
        accepted = (f"at the {answer}",)
    return Question(
        kind="where", text=form.format(the=the(thing.name)), answer=answer, accepted=accepted
    )


def ask_relation(scene: AskedScene) -> Question | None:
    """How two things stand to one another."""
    across = scene.rng.random() < 0.6
    size, n = (scene.width, 0) if across else (scene.side, 1)
    found = scene.pair(lambda a, b: abs(centre(a)[n] - centre(b)[n]) > APART * size)
    if found is None:
        return None
    a, b = found
    before = centre(a)[n] < centre(b)[n]
    words = ("left", "right") if across else ("above", "below")
    answer = words[0] if before else words[1]
    if across:
        text = f"Is {the(a.name)} to the left or to the right of {the(b.name)}?"
        accepted: tuple[str, ...] = (f"to the {answer}", f"to the {answer} of {the(b.name)}")
    else:
        text = f"Is {the(a.name)} above or below {the(b.name)}?"
        accepted = ()
    return Question(kind="where", text=text, answer=answer, accepted=accepted)


def _clearly(a: SeenThing, b: SeenThing) -> bool:
    areas = area_of(a), area_of(b)
    return max(areas) > _LARGER * min(areas)


def ask_larger(scene: AskedScene) -> Question | None:
    """Which of two shows more of itself."""
    found = scene.pair(
        lambda a, b: max(area_of(a), area_of(b)) > _LARGER * min(area_of(a), area_of(b))
    )
    if found is None:
        return None
    a, b = found
    word = scene.said("larger", "bigger", "smaller")
    greatest = max(found, key=area_of) if word != "smaller" else min(found, key=area_of)
    text = f"Which is {word}, {the(a.name)} or {the(b.name)}?"
    return Question(kind="larger", text=text, answer=greatest.name, accepted=(the(greatest.name),))


def ask_in_box(scene: AskedScene) -> Question | None:
    """What is in a box."""
    thing = scene.pick(scene.things)
    text = f"What is in the box {box_text(thing, scene.width, scene.side)}?"
    return Question(
        kind="in box", text=text, answer=thing.name,
        accepted=tuple(also_called(thing.name)) + thing.also,
    )  # fmt: skip


def box_text(thing: SeenThing, width: int, height: int) -> str:
    """A box as ``[x0, y0, x1, y1]``, in twentieths of the picture, from 0 to 100."""
    x0, y0, x1, y1 = thing.box_xyxy
    edges = [5 * round(20 * v) for v in (x0 / width, y0 / height, x1 / width, y1 / height)]
    return json.dumps(edges, separators=(",", ":"))


def ask_json(scene: AskedScene) -> Question | None:
    """Name and box of one thing."""
    if not scene.named:
        return None
    thing = scene.pick(scene.named)
    box = box_text(thing, scene.width, scene.side)
    text = f"Give {the(thing.name)} as JSON with its box."
    answer = f'{{"name":"{thing.name}","box":{box}}}'
    return Question(kind="json", text=text, answer=answer)
