"""Signs and labels with one line of large print: a word of signs, or a short code."""

from __future__ import annotations

import numpy as np

from edgevlm.export.nano_data.backgrounds import drawn_ground
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.canvas import Canvas, Rgb, seen_thing, turned
from edgevlm.export.nano_data.lettering import FACES, fitting_size, write
from edgevlm.export.nano_data.parts import PAINT, shade
from edgevlm.export.nano_data.picture import Picture, Question

WORDS = (
    "EXIT", "STOP", "OPEN", "CLOSED", "PUSH", "PULL", "ENTER", "DANGER", "CAUTION", "WARNING",
    "FIRE", "HOT", "COLD", "WET", "DRY", "ON", "OFF", "IN", "OUT", "UP", "DOWN", "START", "END",
    "GO", "SLOW", "FAST", "WAIT", "YES", "NO", "FREE", "FULL", "EMPTY", "SALE", "NEW", "OLD",
    "TAXI", "BUS", "TRAM", "PARK", "ROOM", "DESK", "DOOR", "LIFT", "STAIRS", "TOILET", "WATER",
    "AIR", "GAS", "OIL", "FUEL", "FOOD", "CAFE", "BAR", "HOTEL", "BANK", "SHOP", "MENU", "PAY",
    "HELP", "INFO", "STAFF", "QUIET", "PRIVATE", "READY", "ERROR", "ALARM", "RESET", "LEFT",
    "RIGHT", "GATE", "KEEP CLEAR", "NO ENTRY",
)  # fmt: skip
_LETTERS, _DIGITS = "ACDEFGHJKLMNPRTUVWXY", "23456789"  # none that another looks like
_SHAPES = ("LD", "DL", "LLD", "LDD", "DDL", "DDD", "LLL", "DLD", "LLDD", "LDDD", "LDLD")
_SCHEMES = (  # of the sign and of its print
    ("white", "black"), ("white", "red"), ("white", "blue"), ("white", "green"), ("red", "white"),
    ("blue", "white"), ("green", "white"), ("black", "white"), ("black", "yellow"),
    ("yellow", "black"), ("orange", "black"), ("yellow", "red"), ("brown", "white"),
    ("purple", "white"), ("grey", "black"), ("pink", "black"),
)  # fmt: skip
_ASKED = ("What is written on the {it}?", "What does the {it} say?", "Read the {it}.",
          "What is the text on the {it}?", "What is written here?")  # fmt: skip
_CODE = ("What is the code on the {it}?", "What code is on the {it}?", "Which code can you see?")
_UNKNOWABLE = (
    "What is written on the back of the {it}?", "What is the price?", "Who wrote this?",
    "What is the name of the person?", "What is written on the second {it}?",
    "When was the {it} printed?", "What is the phone number?", "Who put the {it} there?",
)  # fmt: skip


def printed(rng: np.random.Generator, side: int = 224) -> Picture:
    """One sign with a word, or one label with a code, and questions about its text.

    Args:
        rng: chooses everything.
        side: of the square picture, pixels, at least 224.
    """
    word = bool(rng.random() < 0.55)
    text = WORDS[int(rng.integers(len(WORDS)))] if word else _code(rng)
    name = "sign" if word else "label"
    paper, ink = _SCHEMES[int(rng.integers(len(_SCHEMES)))]
    canvas = Canvas(drawn_ground(side, rng))
    _draw(canvas, text, (PAINT[paper], PAINT[ink]), side, rng)
    image, owners = canvas.finish()
    seen = seen_thing(image, owners, 0, name, "signs")
    named = seen is not None and seen.colour == paper
    questions = _questions(text, name, word, paper if named else "", rng)
    return Picture(
        image_rgb=photographed(image, rng),
        family="print",
        scene=f"{name} {text}",
        things=() if seen is None else (seen,),
        questions=tuple(questions),
    )


def _code(rng: np.random.Generator) -> str:
    """Two to four letters and digits."""
    shape = str(
        rng.choice(["LD", "LLD", "LDD", "DDL", "LLDD", "LDDD", "DDD", "LLL", "DLD", "LDLD"])
    )
    of = {"L": _LETTERS, "D": _DIGITS}
    return "".join(of[s][int(rng.integers(len(of[s])))] for s in shape)


def _draw(
    canvas: Canvas,
    text: str,
    paints: tuple[Rgb, Rgb],
    side: int,
    rng: np.random.Generator,
) -> None:
    paper = shade(paints[0], float(rng.uniform(0.92, 1.05)))
    ink = paints[1]
    face = str(rng.choice(FACES))
    lean = float(rng.uniform(-9, 9))
    width = side * float(rng.uniform(0.66, 0.92))
    # As large as the line allows, but no higher than a sign is.
    margin = width * float(rng.uniform(0.07, 0.12))
    size = fitting_size(text, face, width - 2 * margin, side * float(rng.uniform(0.26, 0.4)))
    height = max(size * 0.73 + 2 * margin, width * float(rng.uniform(0.35, 0.6)))
    reach = np.abs(turned([(width / 2, height / 2), (width / 2, -height / 2)], lean, (0, 0))).max(0)
    room = np.maximum(0, side / 2 - 3 - reach)
    x, y = (side / 2 + float(rng.uniform(-r, r)) for r in room)
    dx, dy = width / 2, height / 2
    corners = [(x - dx, y - dy), (x + dx, y - dy), (x + dx, y + dy), (x - dx, y + dy)]
    canvas.polygon(turned(corners, lean, (x, y)), paper, 0)
    if rng.random() < 0.6:  # a frame
        inner = [(px + np.sign(x - px) * 4, py + np.sign(y - py) * 4) for px, py in corners]
        canvas.line(turned(inner, lean, (x, y)), float(rng.uniform(1, 2.5)), ink, 0, closed=True)
    write(canvas, text, face, size, (x, y), ink, 0, lean)


def _questions(
    text: str, name: str, word: bool, colour: str, rng: np.random.Generator
) -> list[Question]:
    def one_of(texts: tuple[str, ...]) -> str:
        return texts[int(rng.integers(len(texts)))].format(it=name)

    asked = _ASKED if word or rng.random() < 0.5 else _CODE
    found = [Question(kind="text", text=one_of(asked), answer=text)]
    if word:
        right = rng.random() < 0.5
        other = text
        while other == text:
            other = WORDS[int(rng.integers(len(WORDS)))]
        found.append(
            Question(kind="text", text=f"Does the sign say {text if right else other}?",
                     answer="yes" if right else "no")
        )  # fmt: skip
    else:
        number = str(len(text))
        found.append(
            Question(kind="count", text="How many characters does the code have?", answer=number)
        )
    if colour:
        found.append(Question(kind="colour", text=f"What colour is the {name}?", answer=colour))
    found.append(Question(kind="unanswerable", text=one_of(_UNKNOWABLE), answer="I cannot tell"))
    return found
