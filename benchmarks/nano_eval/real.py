"""Real photographs: what each shows, and whether it shows what another does."""

from __future__ import annotations

from benchmarks.photographs import PHOTOGRAPHS, QUESTION
from edgevlm.export.nano_data.questions import CANNOT_TELL
from edgevlm.runtime.device.evaluation.example import Example

# What is asked for where it is, and a photograph where it is not.
PRESENT = (
    ("chelsea.png", "a cat", "coffee.png"),
    ("coffee.png", "a cup", "chelsea.png"),
    ("rocket.jpg", "a rocket", "baboon.jpg"),
    ("camera.png", "a man", "butterfly.jpg"),
    ("motorcycle_left.png", "a motorcycle", "apple.jpg"),
    ("astronaut.png", "a woman", "sudoku.png"),
    ("apple.jpg", "an apple", "astronaut.png"),
    ("baboon.jpg", "a monkey", "rocket.jpg"),
    ("butterfly.jpg", "a butterfly", "home.jpg"),
    ("chicky_512.png", "a dog", "orange.jpg"),
    ("fruits.jpg", "a lemon", "motorcycle_left.png"),
    ("orange.jpg", "an orange", "chicky_512.png"),
    ("squirrel_cls.jpg", "a squirrel", "board.jpg"),
    ("home.jpg", "a building", "squirrel_cls.jpg"),
    ("board.jpg", "a circuit board", "camera.png"),
    ("licenseplate_motion.jpg", "a car", "aloeL.jpg"),
    ("aloeL.jpg", "a plant", "licenseplate_motion.jpg"),
)


COLOURS = (
    ("motorcycle_left.png", "motorcycle", ("red",)),
    ("board.jpg", "circuit board", ("green",)),
    ("aloeL.jpg", "plant", ("green",)),
    ("apple.jpg", "apple", ("red", "orange")),
    ("orange.jpg", "fruit", ("orange",)),
    ("baboon.jpg", "nose of the animal", ("red",)),
    ("home.jpg", "sky", ("blue",)),
)
UNTOLD = (
    ("chelsea.png", "How old is the cat?"),
    ("chicky_512.png", "What is the name of the dog?"),
    ("motorcycle_left.png", "Who owns the motorcycle?"),
    ("coffee.png", "What does the coffee cost?"),
    ("apple.jpg", "How heavy is the apple?"),
    ("home.jpg", "What time is it?"),
    ("board.jpg", "Who made the circuit board?"),
)


def photographs() -> list[Example]:
    """What is the main thing, and is it there; of those photographs that are on this machine."""
    here = {p.file: path for p in PHOTOGRAPHS if (path := p.path()) is not None}
    found = [
        Example(picture=here[p.file], question=QUESTION, answers=p.accepted, kind="name")
        for p in PHOTOGRAPHS
        if p.file in here
    ]
    for shows, thing, lacks in PRESENT:
        if shows in here and lacks in here:
            text = f"Is there {thing} in the picture?"
            for file, answer in ((shows, "yes"), (lacks, "no")):
                found.append(
                    Example(picture=here[file], question=text, answers=(answer,), kind="presence")
                )
    for file, thing, colours in COLOURS:
        if file in here:
            text = f"What colour is the {thing}?"
            found.append(Example(picture=here[file], question=text, answers=colours, kind="colour"))
    for file, text in UNTOLD:
        if file in here:
            found.append(
                Example(
                    picture=here[file], question=text, answers=(CANNOT_TELL,), kind="unanswerable"
                )
            )
    return found
