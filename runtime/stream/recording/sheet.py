"""A picture of a diff: every frame about which something else is said, with both answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from edgevlm.runtime.stream.recording.diff import Pair
from edgevlm.runtime.stream.recording.format import picture_path

CELL_W, PICTURE_H, COLUMNS, LINES = 400, 240, 3, 4
AT_MOST = 60  # frames: a sheet is looked at, not searched
_MARGIN, _LINE_H, _SIZE = 10, 17, 14
_BEFORE, _AFTER, _INK = (176, 0, 32), (0, 110, 50), (90, 90, 90)


def contact_sheet(folder: Path, pairs: Sequence[Pair]) -> Image.Image:
    """RGB; a row of at most ``COLUMNS`` frames, each with what was said before and after.

    Args:
        folder: the recording.
        pairs: what to show; beyond ``AT_MOST``, every so-and-so-many is left out evenly.
    """
    if len(pairs) > AT_MOST:
        pairs = [pairs[i * len(pairs) // AT_MOST] for i in range(AT_MOST)]
    cell_h = PICTURE_H + (2 * LINES + 1) * _LINE_H + _MARGIN
    rows = max(1, -(-len(pairs) // COLUMNS))
    size = (_MARGIN + COLUMNS * (CELL_W + _MARGIN), _MARGIN + rows * (cell_h + _MARGIN))
    sheet = Image.new("RGB", size, "white")
    for n, pair in enumerate(pairs):
        row, column = divmod(n, COLUMNS)
        place = (_MARGIN + column * (CELL_W + _MARGIN), _MARGIN + row * (cell_h + _MARGIN))
        _cell(sheet, place, folder, pair)
    return sheet


def _cell(sheet: Image.Image, place: tuple[int, int], folder: Path, pair: Pair) -> None:
    left, top = place
    path = picture_path(folder, pair.frame)
    if path.is_file():
        with Image.open(path) as picture:
            shown = ImageOps.contain(picture.convert("RGB"), (CELL_W, PICTURE_H))
        sheet.paste(shown, (left + (CELL_W - shown.width) // 2, top))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_SIZE)
    at = "" if pair.media_s is None else f", {pair.media_s:.2f} s"
    fields = f": {', '.join(pair.fields)}" if pair.fields else ""
    y = top + PICTURE_H
    head = f"frame {pair.frame}{at}{fields}  {pair.question}"
    pen.text((left, y), textwrap.shorten(head, 52), _INK, font)
    for sign, body, colour in (("-", pair.before, _BEFORE), ("+", pair.after, _AFTER)):
        text = "(no answer)" if body is None else str(body["text"])
        lines = textwrap.wrap(f"{sign} {text}", 52) or [sign]
        for n, line in enumerate(lines[:LINES]):
            y += _LINE_H
            pen.text(
                (left, y), line + (" ..." if n == LINES - 1 < len(lines) - 1 else ""), colour, font
            )
