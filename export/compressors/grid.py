"""Average pooling of the patch grid to a smaller square grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgevlm.errors import ConfigError
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True)
class GridPool:
    """Pools a square grid of features to ``tokens`` cells.

    Args:
        tokens: 1, 4, 9, 16, ...: a square number.

    Raises:
        ConfigError: not a square number.
    """

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1 or math.isqrt(self.tokens) ** 2 != self.tokens:
            raise ConfigError(f"grid pooling gives a square number of tokens, not {self.tokens}")

    def matrix(self, grid: int) -> Float32:
        """The pooling as a matrix, float32 ``(grid * grid, tokens)``; columns sum to 1.

        Cell ``i`` of ``n`` averages rows ``floor(i g / n)`` to ``ceil((i + 1) g / n)``: adaptive
        average pooling, whose windows overlap where ``n`` does not divide ``g``.

        Raises:
            ConfigError: more tokens than grid cells.
        """
        side = math.isqrt(self.tokens)
        if side > grid:
            raise ConfigError(
                f"{self.tokens} visual tokens need a grid of {side}x{side}; this image size gives "
                f"{grid}x{grid}: ask for at most {grid * grid} or raise --image-size"
            )
        line = np.zeros((side, grid))
        for i in range(side):
            start, stop = i * grid // side, -(-(i + 1) * grid // side)
            line[i, start:stop] = 1.0 / (stop - start)
        return np.ascontiguousarray(np.kron(line, line).T, np.float32)
