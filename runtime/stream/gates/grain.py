"""The noise floor of a stream's brightness, block by block."""

from __future__ import annotations

from edgevlm.runtime.stream.gates.cells import Blocks, Cells, difference
from edgevlm.runtime.stream.gates.floor import Floor

LAG = 5  # looks after which another frame becomes the one that is compared with
LEAST, MOST = 0.3, 12.0  # grey levels; below lies the rounding of cells


class Grain:
    """How much the blocks of one stream differ when nothing happens; grey levels."""

    def __init__(self) -> None:
        self._floor = Floor(LEAST, MOST)
        self._reference: Cells | None = None
        self._age = 0

    def learn(self, cells: Cells) -> None:
        """Take a frame into account; every frame that is looked at, in order."""
        if self._reference is None:
            self._reference = cells
            return
        self._floor.learn(difference(cells, self._reference).rms)
        self._age += 1
        if self._age >= LAG:
            self._reference, self._age = cells, 0

    def limits(self, times: float, least: float, most: float) -> Blocks | float:
        """``times`` the floors ``(45, 80)``, within bounds; ``most`` as yet unknown."""
        return self._floor.limits(times, least, most)

    def restart(self) -> None:
        """The view is another one: learn its floors as quickly as the first ones."""
        self._floor.restart()
