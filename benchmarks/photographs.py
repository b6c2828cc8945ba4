"""Does nano name the subject of photographs?

``python -m benchmarks.photographs bundles/nano`` prints every answer and the score, and
``--sheet FILE.png`` draws them. ``--compare`` scores what the language model is given: the labels
that the encoder saw, the visual tokens, or both.

The photographs are scikit-image's and those of Debian's package opencv-doc, all with one obvious
subject. No weight was fitted to any of them; the wording of the prompt was chosen among a handful
with this very list, so take the score as the better end of what to expect. An answer counts if
one of its words starts with an accepted one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vision import Segment
from edgevlm.runtime.model.vlm import Vlm

QUESTION = "What is the main thing in this picture?"
OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")


@dataclass(frozen=True)
class Photograph:
    """One picture and the words that name its subject."""

    file: str
    accepted: tuple[str, ...]
    package: str = "opencv-doc"

    def path(self) -> Path | None:
        """Where the picture lies on this machine; None if its package is not installed."""
        if self.package == "opencv-doc":
            path = OPENCV / self.file
        else:
            import skimage

            path = Path(skimage.__file__).parent / "data" / self.file
        return path if path.is_file() else None


PHOTOGRAPHS = (
    Photograph("chelsea.png", ("cat", "mau", "tabby"), "scikit-image"),
    Photograph("coffee.png", ("coffee", "espresso", "cup", "mug"), "scikit-image"),
    Photograph("rocket.jpg", ("rocket", "missile"), "scikit-image"),
    Photograph("camera.png", ("camera", "tripod", "photographer", "man"), "scikit-image"),
    Photograph(
        "motorcycle_left.png", ("motorcycle", "motor", "moped", "bike", "scooter"), "scikit-image"
    ),
    Photograph("astronaut.png", ("astronaut", "woman", "person"), "scikit-image"),
    Photograph("apple.jpg", ("apple",)),
    Photograph("baboon.jpg", ("baboon", "monkey", "mandrill")),
    Photograph("butterfly.jpg", ("butterfly",)),
    Photograph("chicky_512.png", ("dog", "puppy", "pekingese")),
    Photograph("fruits.jpg", ("fruit", "orange", "lemon", "kiwi")),
    Photograph("orange.jpg", ("orange",)),
    Photograph("squirrel_cls.jpg", ("squirrel",)),
    Photograph("home.jpg", ("church", "building", "palace", "monastery")),
    Photograph("board.jpg", ("circuit", "electronic", "computer")),
    Photograph("licenseplate_motion.jpg", ("car", "cab", "taxi", "van")),
    Photograph("aloeL.jpg", ("plant", "pot", "aloe")),
    Photograph("sudoku.png", ("sudoku", "puzzle", "crossword")),
)


def named(answer: str, accepted: tuple[str, ...]) -> bool:
    """True if a word of the answer starts with an accepted word."""
    words = "".join(c if c.isalpha() else " " for c in answer.lower()).split()
    return any(word.startswith(a) for word in words for a in accepted)


def score(model: Vlm, max_tokens: int = 24) -> list[tuple[Photograph, str, bool]]:
    """Ask about every photograph that is on this machine."""
    rows = []
    for photograph in PHOTOGRAPHS:
        path = photograph.path()
        if path is not None:
            text = model.ask(path, QUESTION, max_tokens=max_tokens).text
            rows.append((photograph, text, named(text, photograph.accepted)))
    return rows


def compare(bundle: Bundle) -> None:
    """Score labels alone, tokens alone, and both."""
    manifest = bundle.manifest
    prompt = manifest.language.prompt
    silent = replace(bundle, manifest=manifest.model_copy(
        update={"prompt": prompt.model_copy(update={"labels": None})}))  # fmt: skip
    for title, opened, drop in (
        ("labels and tokens", bundle, False),
        ("tokens alone", silent, False),
        ("labels alone", bundle, True),
    ):
        with Vlm(opened, open_backend()) as model:
            if drop:
                _drop_tokens(model)
            rows = score(model)
        sys.stdout.write(f"{title}: {sum(hit for *_, hit in rows)} of {len(rows)}\n")


def _drop_tokens(model: Vlm) -> None:
    """Give the language model an empty picture: only the labels are left in the prompt."""
    assert model._inference is not None
    encoder = model._inference.vision
    assert encoder is not None
    encode = encoder.encode

    def without(image_rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], _n: int) -> object:
        return replace(encode(image_rgb), segments=(Segment(np.zeros((0, 576), np.float32)),))

    encoder.encode = without  # type: ignore[method-assign, assignment]


def draw(rows: list[tuple[Photograph, str, bool]], target: Path) -> None:
    """A contact sheet: every photograph with its answer, green or red."""
    from PIL import Image, ImageDraw

    size, columns = 240, 6
    height = size + 44
    sheet = Image.new("RGB", (columns * size, -(-len(rows) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for n, (photograph, text, hit) in enumerate(rows):
        x, y = n % columns * size, n // columns * height
        path = photograph.path()
        assert path is not None
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((size - 8, size - 8))
        sheet.paste(picture, (x + 4, y + 4))
        lines = [text[i : i + 38] for i in range(0, min(len(text), 114), 38)]
        pen.multiline_text((x + 4, y + size - 2), "\n".join(lines), "green" if hit else "red")
    sheet.save(target)


def main() -> None:
    """Print answers and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/nano"))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    if args.compare:
        compare(bundle)
        return
    with Vlm(bundle, open_backend()) as model:
        rows = score(model)
    for photograph, text, hit in rows:
        sys.stdout.write(f"{'ok  ' if hit else 'miss'} {photograph.file:24} {text}\n")
    sys.stdout.write(f"{sum(hit for *_, hit in rows)} of {len(rows)} subjects named\n")
    if len(rows) < len(PHOTOGRAPHS):
        sys.stdout.write("some photographs are not here: install Debian's opencv-doc\n")
    if args.sheet:
        draw(rows, args.sheet)


if __name__ == "__main__":
    main()
