"""A gate that lets no stream be silent for too long."""

from __future__ import annotations

from edgevlm.gates import SilenceSection
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.view import View


class SilenceGate:
    """Overrules the gates behind it when the last answer is old.

    ``measure`` is the time since then, in seconds.

    Args:
        section: settings.
    """

    def __init__(self, section: SilenceSection) -> None:
        self.measure: float | None = None
        self._every_s = section.every_s
        self._answered_s: float | None = None
        self._now_s = 0.0

    def look(self, view: View) -> Verdict:
        """``due`` if so, else ``new``; nothing is due before the first answer."""
        self._now_s = view.now_s
        if self._answered_s is None:
            return "new"
        self._answered_s = min(self._answered_s, self._now_s)  # a source may begin again
        self.measure = self._now_s - self._answered_s
        return "due" if self.measure >= self._every_s else "new"

    def settle(self, answered: bool) -> None:
        """An answer begins the time anew; a frame that is dropped breaks no silence."""
        if answered:
            self._answered_s = self._now_s
