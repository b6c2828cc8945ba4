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
