"""What it is, in a word and in a sentence; and what no picture tells."""

from __future__ import annotations

from edgevlm.export.nano_data.asked_scene import (
    APART,
    AskedScene,
    centre,
)
from edgevlm.export.nano_data.english import NUMBERS, listed, plural, with_article
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import Question, SeenThing

CANNOT_TELL = "I cannot tell"
_HIDDEN = (
    "What is the name of the {name}?", "How old is the {name}?", "Who owns the {name}?",
    "What does the {name} cost?", "Where was the {name} bought?", "How heavy is the {name}?",
    "What is behind the {name}?",
)  # fmt: skip
_NOWHERE = (
    "What colour is the {name}?", "Is the {name} on the left or on the right?",
    "Which is larger, the {name} or the {other}?",
    "Is the {name} to the left or to the right of the {other}?",
    "Is the {name} above or below the {other}?",
)  # fmt: skip
_TIMES = ("What time is it?", "What is written on the sign?", "What does the gauge show?",
          "What number is shown?", "What day is it?", "Who took this picture?")  # fmt: skip


def ask_name(scene: AskedScene) -> Question | None:
    """What one thing is, among others that are elsewhere."""
    things = scene.things
    if len(things) == 1 or len(scene.count) == 1:
        thing = things[0]
        several = len(things) > 1
        text = (
            scene.said("What are these?", "What can you see?") if several
            else scene.said("What is this?", "What is in the picture?",
                            "What is the main thing in this picture?")
        )  # fmt: skip
    else:
        ends = {
            "on the left": min(things, key=lambda t: centre(t)[0]),
            "on the right": max(things, key=lambda t: centre(t)[0]),
            "at the top": min(things, key=lambda t: centre(t)[1]),
            "at the bottom": max(things, key=lambda t: centre(t)[1]),
        }
        clear = [w for w, t in ends.items() if _stands_out(t, w, scene)]
        if not clear:
            return None
        where = scene.said(*clear)
        thing, text, several = ends[where], f"What is {where}?", False
    accepted = tuple(also_called(thing.name)) + thing.also
    return Question(
        kind="name", text=text,
        answer=plural(thing.name) if several else thing.name,
        accepted=accepted + ((thing.name, *map(plural, accepted)) if several else ()),
    )  # fmt: skip


def _stands_out(thing: SeenThing, where: str, scene: AskedScene) -> bool:
    n, size = (0, scene.width) if where.endswith(("left", "right")) else (1, scene.side)
    sign = 1 if where.endswith(("left", "top")) else -1
    mine = sign * centre(thing)[n]
    return all(sign * centre(o)[n] - mine > APART * size for o in scene.things if o is not thing)


def ask_describe(scene: AskedScene) -> Question:
    """Everything in one sentence."""
    seen: dict[str, list[SeenThing]] = {}
    for thing in sorted(scene.things, key=lambda t: centre(t)[0]):
        seen.setdefault(thing.name, []).append(thing)
    parts = []
    for name, things in seen.items():
        number, colour = len(things), things[0].colour
        if number == 1:
            whole = f"{colour} {name}" if colour and colour not in name.split() else name
            parts.append(with_article(whole))
        else:
            parts.append(f"{NUMBERS[number]} {plural(name)}")
    sentence = listed(parts)
    text = scene.said("Describe the picture in one sentence.", "What can you see in the picture?")
    return Question(kind="describe", text=text, answer=sentence[0].upper() + sentence[1:] + ".")


def ask_unanswerable(scene: AskedScene) -> Question:
    """What the picture cannot tell."""
    chance = scene.rng.random()
    if chance < 0.5:
        name, other = scene.absent(), scene.pick(scene.things).name
        text = scene.said(*_NOWHERE).format(name=name, other=other)
    elif chance < 0.85 or scene.family != "cut-outs":
        text = scene.said(*_HIDDEN).format(name=scene.pick(scene.things).name)
    else:
        text = scene.said(*_TIMES)
    return Question(kind="unanswerable", text=text, answer=CANNOT_TELL)
