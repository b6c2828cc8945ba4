"""Quantise a matrix column by column, and let the rest make up for each error.

Source: GPTQ (Frantar et al., 2022), section 3.2 (equation 2 and 3) and algorithm 1, with the
columns in their own order, so that blocks of neighbours keep sharing a scale.
"""

from __future__ import annotations

import numpy as np

from edgevlm.export.quantize import BLOCK, QuantBlocks, quantize_asymmetric, quantize_symmetric
from edgevlm.tensors import Array, Float32

DAMPING = 0.01  # of the mean diagonal, so that the inverse exists


def inverse_root(rows: Float32) -> Array:
    """Upper Cholesky factor of the inverse of ``rows.T @ rows``, damped.

    Args:
        rows: inputs of the layer, float32 ``(tokens, in)``.

    Returns:
        float64 ``(in, in)``.
    """
    hessian = (rows.T @ rows).astype(np.float64)
    diagonal = np.einsum("ii->i", hessian)
    mean = float(diagonal.mean()) or 1.0
    diagonal[diagonal == 0] = mean  # an input that is always zero: its weight does not matter
    diagonal += DAMPING * mean
    # The upper factor of the inverse is the inverse of the lower factor, both orders reversed.
    lower = np.linalg.cholesky(hessian[::-1, ::-1])
    return np.linalg.inv(lower)[::-1, ::-1]


def quantize(
    matrix: Float32, root: Array, *, symmetric: bool = False, block_size: int = BLOCK
) -> QuantBlocks:
    """Four bits a value.

    Args:
        matrix: float32 ``(out, in)``, ``in`` a multiple of ``block_size``.
        root: from ``inverse_root`` of the same layer's inputs.
        symmetric: without zero points.
        block_size: values per scale.
    """
    left = matrix.astype(np.float32)
    root = root.astype(np.float32)
    out, width = left.shape
    values = np.zeros((out, width // block_size, block_size), np.uint8)
    scales = np.zeros((out, width // block_size), np.float32)
    zeros = np.full(scales.shape, 8, np.uint8)
    errors = np.zeros((out, block_size), np.float32)
    for block in range(width // block_size):
        start, stop = block * block_size, (block + 1) * block_size
        grid = _grid(np.ascontiguousarray(left[:, start:stop]), symmetric)
        scales[:, block] = grid.scales[:, 0]
        if grid.zeros is not None:
            zeros[:, block] = grid.zeros[:, 0]
        scale, zero = scales[:, block], zeros[:, block].astype(np.float32)
        safe = np.where(scale == 0, np.float32(1), scale)
        for n in range(block_size):
            column = start + n
            chosen = np.clip(np.rint(left[:, column] / safe) + zero, 0, 15)
            values[:, block, n] = chosen
            error = (left[:, column] - (chosen - zero) * scale) / root[column, column]
            errors[:, n] = error
            left[:, column + 1 : stop] -= np.outer(error, root[column, column + 1 : stop])
        left[:, stop:] -= errors @ root[start:stop, stop:]
    return QuantBlocks(
        bits=4, values=values, scales=scales, zeros=None if symmetric else zeros
    )


def _grid(block: Float32, symmetric: bool) -> QuantBlocks:
    """Scale and zero point of one block, from the weights as they are by now."""
    width = block.shape[1]
    if symmetric:
        return quantize_symmetric(block, 4, width)
    return quantize_asymmetric(block, 4, width)
