"""What the gates of a stream did, and what it cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgevlm.event import GateTotals
from edgevlm.gates import GateSection, named
from edgevlm.runtime.stream.accounting import WINDOW, percentiles


@dataclass(slots=True)
class _Row:
    asked: int = 0
    stopped: int = 0
    due: int = 0
    ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    measures: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))


class Tally:
    """Counts by gate.

    Args:
        sections: the gates, in the order in which they are asked.
    """

    def __init__(self, sections: Sequence[GateSection]) -> None:
        self._sections = tuple(sections)
        self.names = named(sections)
        self._rows = [_Row() for _ in sections]

    def decided(self, by: int | None, due: bool) -> None:
        """One frame was decided.

        Args:
            by: place of the gate that decided; None: all let the frame through.
            due: it overruled those behind it.
        """
        if by is not None:
            row = self._rows[by]
            row.due += due
            row.stopped += not due

    def cost(self, at: int, ms: float, measure: float | None) -> None:
        """The gate at this place was asked: what it took, and what its verdict rests on."""
        row = self._rows[at]
        row.asked += 1
        row.ms.append(ms)
        if measure is not None:
            row.measures.append(measure)

    def totals(self) -> tuple[GateTotals, ...]:
        """The closing figures."""
        return tuple(
            GateTotals(
                name=name,
                kind=section.kind,
                asked=row.asked,
                stopped=row.stopped,
                due=row.due,
                ms=percentiles(row.ms),
                measure=percentiles(row.measures),
            )
            for name, section, row in zip(self.names, self._sections, self._rows, strict=True)
        )
