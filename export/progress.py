"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int, str], None]


@dataclass(slots=True)
class Progress:
    """Counts steps of a known total.

    Args:
        total: how many steps there will be.
        report: called after each with ``(done, total, what)``; the default says nothing.
    """

    total: int
    report: Report = lambda _done, _total, _what: None
    done: int = 0

    def step(self, what: str) -> None:
        """One step is done."""
        self.done = min(self.done + 1, self.total)
        self.report(self.done, self.total, what)

    def skip(self, steps: int, what: str) -> None:
        """Several steps need not be done."""
        self.done = min(self.done + steps, self.total)
        self.report(self.done, self.total, what)

    def more(self, steps: int) -> None:
        """There is more to do than was known."""
        self.total += steps
