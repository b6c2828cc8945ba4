"""Linear interpolation along one axis, as a matrix: two of them resample a grid of anything."""

from __future__ import annotations

import numpy as np

from edgevlm.tensors import Float32


def bilinear_matrix(source: int, target: int) -> Float32:
    """Half-pixel centres, edges repeated, no antialiasing: torch's ``interpolate(bilinear)``.

    Returns:
        float32 ``(target, source)``; rows sum to 1.
    """
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return _hats(centres, source)


def corner_matrix(source: int, target: int) -> Float32:
    """End points on end points: the positions of ``linspace(0, source - 1, target)``.

    Returns:
        float32 ``(target, source)``; rows sum to 1.
    """
    return _hats(np.linspace(0, source - 1, target), source)


def antialiased_matrix(source: int, target: int) -> Float32:
    """Half-pixel centres with a hat as wide as the shrinking: torch's ``antialias=True``.

    Returns:
        float32 ``(target, source)``; rows sum to 1.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = scale * (np.arange(target) + 0.5)
    matrix = np.zeros((target, source))
    for row, centre in enumerate(centres):
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), source)
        distances = np.abs((np.arange(first, last) + 0.5 - centre) / support)
        weights = np.clip(1.0 - distances, 0, None)
        matrix[row, first:last] = weights / weights.sum()
    return matrix.astype(np.float32)


def _hats(positions: np.ndarray, source: int) -> Float32:
    distances = np.abs(positions[:, None] - np.arange(source)[None])
    return np.clip(1.0 - distances, 0, None).astype(np.float32)
