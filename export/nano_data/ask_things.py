"""Whether, how many, which colour."""

from __future__ import annotations

from edgevlm.colour import COLOURS
from edgevlm.export.nano_data.asked_scene import (
    AskedScene,
    answers_to,
    the,
)
from edgevlm.export.nano_data.english import NUMBERS, is_plural, plural, with_article
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import Question


def ask_presence(scene: AskedScene) -> Question:
    """Whether something is there; half of the time it is not."""
    if scene.rng.random() < 0.5:
        thing = scene.pick(scene.things)
        names = [thing.name, *also_called(thing.name)]
        # Its own name as often as all the more general ones together.
        general = len(names) > 1 and scene.rng.random() < 0.4
        name = names[int(scene.rng.integers(1, len(names)))] if general else names[0]
        answer = "yes"
    else:
        name, answer = scene.absent(), "no"
        wider = also_called(name)
        if wider and scene.rng.random() < 0.3:
            word = wider[int(scene.rng.integers(len(wider)))]
            name = word if word not in scene.shown else name
    verb = "Are" if is_plural(name) else "Is"
    form = scene.said(
        "{verb} there {a} in the picture?", "{verb} there {a}?", "Can you see {a}?",
        "Does the picture show {a}?",
    )  # fmt: skip
    return Question(
        kind="presence", text=form.format(verb=verb, a=with_article(name)), answer=answer
    )


def ask_count(scene: AskedScene) -> Question | None:
    """How many there are, of one kind or in all."""
    if any(is_plural(t.name) for t in scene.things):
        return None
    chance = scene.rng.random()
    if chance < 0.2:
        number = len(scene.things)
        return numbered(
            scene.said("How many things are there?", "How many things can you see?"), number
        )
    if chance < 0.3:
        return numbered(f"How many {plural(scene.absent())} are there?", 0)
    name = scene.pick(scene.things).name
    # Of several kinds, the one that comes most often half of the time.
    if scene.rng.random() < 0.5:
        name = scene.count.most_common(1)[0][0]
    if scene.count[name] == 1 and scene.rng.random() < 0.7:
        return None
    others = [t for t in scene.things if t.name != name]
    if any(name in answers_to(t.name) for t in others):
        return None
    form = scene.said("How many {p} are there?", "How many {p} can you see?", "Count the {p}.")
    return numbered(form.format(p=plural(name)), scene.count[name])


def numbered(text: str, number: int) -> Question:
    """A question whose answer is a number."""
    return Question(kind="count", text=text, answer=str(number), accepted=(NUMBERS[number],))


def ask_colour(scene: AskedScene) -> Question | None:
    """Which colour one thing has."""
    named = [t for t in scene.named if t.colour is not None]
    if not named:
        return None
    thing = scene.pick(named)
    assert thing.colour is not None
    if scene.rng.random() < 0.25:
        right = scene.rng.random() < 0.5
        others = [c for c in COLOURS if c != thing.colour]
        colour = thing.colour if right else others[int(scene.rng.integers(len(others)))]
        text = f"Is {the(thing.name)} {colour}?"
        return Question(kind="colour", text=text, answer="yes" if right else "no")
    form = scene.said("What colour is {the}?", "Which colour does {the} have?")
    return Question(kind="colour", text=form.format(the=the(thing.name)), answer=thing.colour)
