"""Rotary positions of a prompt in which pictures take part with rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def mrope_positions(start: int, pieces: Sequence[int | tuple[int, int]]) -> Int64:
    """Temporal, row and column position of every row of a prompt.

    Text advances all three together. A picture keeps one temporal position, counts rows and
    columns from there, and what follows begins behind its longer side.

    Args:
        start: position of the first row.
        pieces: in order, a number of text tokens, or a picture's ``(rows, columns)`` of tokens.

    Returns:
        int64 ``(3, rows)``.

    Source: Qwen2-VL (Wang et al., 2024), section 2.1, "Multimodal Rotary Position Embedding".
    """
    parts = [np.zeros((3, 0), np.int64)]
    for piece in pieces:
        if isinstance(piece, int):
            parts.append(np.tile(np.arange(start, start + piece), (3, 1)))
            start += piece
        else:
            rows, columns = piece
            grid = np.mgrid[0:rows, 0:columns].reshape(2, -1)
            parts.append(start + np.concatenate([np.zeros((1, rows * columns), np.int64), grid]))
            start += max(rows, columns)
    return np.concatenate(parts, axis=1)
