"""What goes into a decoder for a run of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Embeddings, and what some decoders want beside them.

    Args:
        embeds: float32 ``(rows, hidden_size)``.
        deepstack: float32 ``(levels, rows, hidden_size)``, added behind the first layers; None is
            zeros.
        positions: int64 ``(3, rows)``: time, row and column; None counts on from what is cached.
    """

    embeds: Float32
    deepstack: Float32 | None = None
    positions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.embeds)

    def part(self, start: int, stop: int) -> Rows:
        """Rows from ``start`` to before ``stop``."""
        return Rows(
            self.embeds[start:stop],
            None if self.deepstack is None else self.deepstack[:, start:stop],
            None if self.positions is None else self.positions[:, start:stop],
        )

    def doubled(self) -> Rows:
        """These rows, and the last one once more behind them."""
        more = None if self.deepstack is None else self.deepstack[:, -1:]
        positions = self.positions
        return Rows(
            np.concatenate([self.embeds, self.embeds[-1:]]),
            None if more is None else np.concatenate([self.deepstack, more], axis=1),
            None if positions is None else np.concatenate([positions, positions[:, -1:]], axis=1),
        )

    def before(self, embeds: Float32) -> Rows:
        """These rows with embeddings of text behind them, float32 ``(tokens, hidden_size)``."""
        if not len(embeds):
            return self
        positions, deepstack, more = self.positions, self.deepstack, len(embeds)
        if positions is not None:
            behind = np.tile(np.arange(more) + positions.max() + 1, (3, 1))
            positions = np.concatenate([positions, behind], axis=1)
        if deepstack is not None:
            nothing = np.zeros((len(deepstack), *embeds.shape), np.float32)
            deepstack = np.concatenate([deepstack, nothing], axis=1)
        return Rows(np.concatenate([self.embeds, embeds]), deepstack, positions)
