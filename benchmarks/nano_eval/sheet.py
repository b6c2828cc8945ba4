"""What was answered wrongly, with its pictures: a sheet for the model card."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.nano_eval.posed import Posed

CELL, TEXT, COLUMNS, MOST, LETTERS = 176, 62, 6, 24, 29


def draw_misses(missed: Sequence[tuple[Posed, str]], target: Path) -> bool:
    """A sheet of wrong answers: picture, question, what is right, what was said.

    Args:
        missed: what to choose from, as different in kind as there are.
        target: JPEG file; not written where nothing was missed.

    Returns:
        whether it was written.
    """
    shown = _mixed(missed)
    if not shown:
        return False
    rows = -(-len(shown) // COLUMNS)
    size = min(COLUMNS, len(shown)) * (CELL + 6), rows * (CELL + TEXT + 6)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for n, (one, said) in enumerate(shown):
        x, y = n % COLUMNS * (CELL + 6) + 3, n // COLUMNS * (CELL + TEXT + 6) + 3
        sheet.paste(Image.fromarray(one.picture.image_rgb).resize((CELL, CELL)), (x, y))
        lines = textwrap.wrap(one.question.text, LETTERS)[:2]
        lines += [_cut(f"right: {one.question.answer}"), _cut(f"said: {said}")]
        pen.multiline_text((x, y + CELL + 2), "\n".join(lines), "black", spacing=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, "JPEG", quality=85)
    return True


def _mixed(missed: Sequence[tuple[Posed, str]]) -> list[tuple[Posed, str]]:
    """At most ``MOST``, the kinds in turn."""
    kinds: dict[str, list[tuple[Posed, str]]] = {}
    for one, said in missed:
        key = f"{one.picture.family} {one.example.kind}"
        kinds.setdefault(key, []).append((one, said))
    found: list[tuple[Posed, str]] = []
    while any(kinds.values()) and len(found) < MOST:
        found += [some.pop(0) for some in kinds.values() if some]
    return found[:MOST]


def _cut(line: str) -> str:
    return line if len(line) <= LETTERS else line[: LETTERS - 3] + "..."
