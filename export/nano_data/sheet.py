"""``python -m edgevlm.export.nano_data.sheet OUT.png`` draws pictures of every family.

Each with the outlines of its things, their boxes and some of the questions about it, so that a
person can see whether the answers can be told from the picture. The sheet holds photographs of
packages whose licences stay with those packages (docs/nano-data.md): it is not for publishing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
from PIL import Image, ImageDraw

from edgevlm.errors import EdgeVLMError
from edgevlm.export.nano_data.displays import display
from edgevlm.export.nano_data.emoji import pictographs
from edgevlm.export.nano_data.gauges import gauge
from edgevlm.export.nano_data.groceries import grocery_folder
from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.picture import Picture, Question
from edgevlm.export.nano_data.printed import printed
from edgevlm.export.nano_data.questions import Asker
from edgevlm.export.nano_data.renders import TableTops
from edgevlm.export.nano_data.scenes import SceneMaker, photographs
from edgevlm.export.nano_data.stamps import training_stamps

SIDE, GAP, LINES, LINE_PX = 224, 16, 13, 11
_OUTLINE, _BOX = (255, 0, 255), (0, 255, 255)
Generator = Callable[[np.random.Generator], Picture]


def main() -> int:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG file")
    parser.add_argument("--each", type=int, default=6, help="pictures of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groceries", action="store_true", help="on rendered tables too")
    args = parser.parse_args()
    try:
        with families(args.groceries) as generators:
            sheet(generators, args.each, args.seed).save(args.out)
    except EdgeVLMError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


@contextmanager
def families(groceries: bool) -> Iterator[dict[str, tuple[Generator, Asker]]]:
    """Every generator of pictures with who asks about them.

    Args:
        groceries: whether rendered tables bear such too.

    Raises:
        ExportError: a package that one of them needs is not installed.
    """
    cut_outs = training_stamps(), pictographs()
    maker = SceneMaker(cut_outs=cut_outs, backgrounds=photographs())
    asker = Asker(vocabulary=sorted({c.name for group in cut_outs for c in group}))
    with TableTops(groceries=grocery_folder() if groceries else None) as tops:
        generators: dict[str, Generator] = {
            "cut-outs": maker.scene, "renders": tops, "inspection": inspection, "gauges": gauge,
            "displays": display, "print": printed,
        }  # fmt: skip
        yield {name: (generator, asker) for name, generator in generators.items()}


def sheet(generators: dict[str, tuple[Generator, Asker]], each: int, seed: int) -> Image.Image:
    """A row for every family.

    Args:
        generators: by family, with who asks.
        each: pictures of a family.
        seed: of everything.
    """
    width, height = SIDE + GAP, SIDE + LINES * LINE_PX + GAP
    whole = Image.new("RGB", (each * width, len(generators) * height), "white")
    for row, (generator, asker) in enumerate(generators.values()):
        rng = np.random.default_rng([seed, row])
        for column in range(each):
            picture = generator(rng)
            asked = asker.questions(picture, rng)
            whole.paste(_card(picture, asked), (column * width, row * height))
    return whole


def _card(picture: Picture, questions: list[Question]) -> Image.Image:
    drawn = picture.image_rgb.copy()
    for thing in picture.things:
        outline, _ = cv2.findContours(
            thing.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, outline, -1, _OUTLINE, 1)
        x0, y0, x1, y1 = thing.box_xyxy
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), _BOX, 1)
    card = Image.new("RGB", (SIDE + GAP, SIDE + LINES * LINE_PX + GAP), "white")
    card.paste(Image.fromarray(drawn))
    lines = [line for q in questions for line in wrap(f"{q.text} {q.answer}", 42)]
    ImageDraw.Draw(card).multiline_text(
        (0, SIDE + 2), "\n".join(lines[:LINES]), fill="black", spacing=0
    )
    return card


if __name__ == "__main__":
    sys.exit(main())
