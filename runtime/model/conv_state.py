"""What short convolutions remember, and how a decoder with them goes back."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.manifest import ConvLayout
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import StatefulGraph
from edgevlm.tensors import Array


class ConvState:
    """The last inputs of every short convolution, as they were at marked positions.

    Each call overwrites them, so that, unlike keys and values, earlier ones are gone unless they
    were copied: ``mark`` copies, ``rewind`` has the next call begin with the copy.

    Args:
        layout: which layers, and how much of each.
    """

    def __init__(self, layout: ConvLayout) -> None:
        self.pairs = {f"present_conv.{i}": f"past_conv.{i}" for i in layout.layers}
        nothing = np.zeros((1, layout.columns, layout.width), np.float32)
        self._marks: dict[int, dict[str, Array]] = {0: dict.fromkeys(self.pairs.values(), nothing)}
        self._next: dict[str, Array] = {}

    def mark(self, length: int, state: StatefulGraph) -> None:
        """Copy the state at position ``length``, where the cache stands."""
        if length not in self._marks:
            self._marks[length] = {
                past: state.output(present).copy() for present, past in self.pairs.items()
            }

    def rewind(self, length: int, now: int) -> None:
        """Begin the next call as at position ``length``; marks behind it are forgotten.

        Raises:
            ContractError: the state of that position was not kept.
        """
        if length not in self._marks and length != now:
            kept = ", ".join(map(str, sorted(self._marks)))
            raise ContractError(
                f"cannot rewind to {length}: this decoder has convolutions, whose state was kept "
                f"at {kept} only; mark a position to come back to it"
            )
        if length in self._marks:
            self._next = self._marks[length]
        self._marks = {at: value for at, value in self._marks.items() if at <= length}

    def feeds(self) -> dict[str, Array]:
        """What the next call must begin with, once; empty where it goes on."""
        feeds, self._next = self._next, {}
        return feeds
