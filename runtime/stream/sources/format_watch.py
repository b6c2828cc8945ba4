"""Notices when a source goes on with other pictures: another size, pixel format or codec."""

from __future__ import annotations

from edgevlm.frame import SourceFault


class FormatWatch:
    """Outlives the connections of a source, so that a camera may change while it is away.

    Args:
        name: printable name of the source.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: tuple[tuple[int, int], str] | None = None

    def fault(self, size_wh: tuple[int, int], layout: str) -> SourceFault | None:
        """What to report of a picture of this size and layout, if it is not like the last."""
        last, self._last = self._last, (size_wh, layout)
        if last is None or last == self._last:
            return None
        return SourceFault(
            code="format_changed",
            message=f"{self._name} goes on with {_words(*self._last)} after {_words(*last)}",
        )


def _words(size_wh: tuple[int, int], layout: str) -> str:
    return f"{size_wh[0]}x{size_wh[1]} {layout}"
