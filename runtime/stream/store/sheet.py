"""The thumbnails of found events on one picture, to be looked over at a glance."""

from __future__ import annotations

import io
import textwrap

from PIL import Image, ImageDraw, ImageFont

from edgevlm.runtime.stream.store.query import StoredEvent
from edgevlm.runtime.stream.store.thumbnail import THUMBNAIL_PX

COLUMNS, AT_MOST = 5, 100
_MARGIN, _LINE_H, _SIZE, _LINES = 8, 15, 12, 3
_CELL_H = THUMBNAIL_PX + (_LINES + 1) * _LINE_H


class Sheet:
    """A contact sheet of up to ``AT_MOST`` events, in the order they are given."""

    def __init__(self) -> None:
        self._cells: list[tuple[StoredEvent, str]] = []
        self.given = 0

    @property
    def shown(self) -> int:
        """How many are on it."""
        return len(self._cells)

    def add(self, event: StoredEvent, similarity: float | None = None) -> None:
        """Put an event with a thumbnail on it, if there is room."""
        self.given += 1
        if len(self._cells) < AT_MOST:
            when = str(event.body.get("captured_at", ""))[:19].replace("T", " ")
            self._cells.append((event, when if similarity is None else f"{similarity:.3f}  {when}"))

    def picture(self) -> Image.Image:
        """RGB; each cell has the thumbnail, when it was taken, and what was answered."""
        columns = max(1, min(COLUMNS, len(self._cells)))
        rows = max(1, -(-len(self._cells) // columns))
        size = (
            _MARGIN + columns * (THUMBNAIL_PX + _MARGIN),
            _MARGIN + rows * (_CELL_H + _MARGIN),
        )
        sheet = Image.new("RGB", size, "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_SIZE)
        for n, (event, head) in enumerate(self._cells):
            row, column = divmod(n, columns)
            left = _MARGIN + column * (THUMBNAIL_PX + _MARGIN)
            top = _MARGIN + row * (_CELL_H + _MARGIN)
            with Image.open(io.BytesIO(event.thumbnail or b"")) as thumbnail:
                sheet.paste(thumbnail, (left, top + THUMBNAIL_PX - thumbnail.height))
            words = textwrap.wrap(str(event.body.get("text", "")), THUMBNAIL_PX // 6)[:_LINES]
            for line, text in enumerate([head, *words]):
                pen.text((left, top + THUMBNAIL_PX + line * _LINE_H), text, "black", font)
        return sheet
