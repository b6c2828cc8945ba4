"""Round a matrix column by column, and let the columns to come make up for each error.

Source: GPTQ (Frantar et al., 2022), section 3 and algorithm 1; columns in the order of their
importance, on grids fixed beforehand so that blocks of neighbours keep sharing a scale ("static
groups" of the authors' code).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.quantize import BLOCK, QuantBlocks, quantize_asymmetric, quantize_symmetric
from edgevlm.tensors import Array, Float32

# Of the mean diagonal. Far more than the 0.01 of the paper: the text is short, and what it does
# not show must not be bent to its sake.
DAMPING = 0.5
AT_ONCE = 128  # columns whose errors are passed on together


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """What the inputs of a layer say of its columns.

    Args:
        order: int64 ``(in,)``, the columns, most important first.
        root: float32 ``(in, in)``, upper Cholesky factor of the inverse Hessian, in that order.
        diagonal: float32 ``(in,)``, mean square of each input, in the columns' own order.
    """

    order: NDArray[np.int64]
    root: Float32
    diagonal: Float32


def importance(products: Array) -> Importance:
    """From ``rows.T @ rows`` of a layer's inputs, ``(in, in)``."""
    hessian = np.array(products, np.float32)  # damped as it is, well conditioned
    diagonal = np.einsum("ii->i", hessian)
    mean = float(diagonal.mean()) or 1.0
    squares = diagonal / mean + 1e-6  # an input that is always zero still has a grid
    diagonal += DAMPING * mean
    order = np.argsort(-diagonal, kind="stable")
    ordered = hessian[np.ix_(order, order)]
    # The upper factor of the inverse is the inverse of the lower factor, both orders reversed.
    lower = np.linalg.cholesky(ordered[::-1, ::-1])
    root = np.ascontiguousarray(_inverse(lower)[::-1, ::-1])
    return Importance(order, root, squares.astype(np.float32))


def _inverse(lower: Float32) -> Float32:
    """Of a lower triangular matrix, half by half: a third of what a general one takes."""
    size = len(lower)
    if size <= AT_ONCE:
        small: Float32 = np.linalg.inv(lower)
        return small
    half = size // 2
    found = np.zeros_like(lower)
    found[:half, :half] = _inverse(lower[:half, :half])
    found[half:, half:] = _inverse(lower[half:, half:])
    found[half:, :half] = -found[half:, half:] @ (lower[half:, :half] @ found[:half, :half])
    return found


def quantize(
    matrix: Float32, found: Importance, *, symmetric: bool = False, block: int = BLOCK
) -> QuantBlocks:
    """Four bits a value, in blocks of ``block`` neighbours.

    Args:
        matrix: float32 ``(out, in)``, ``in`` a multiple of ``block``.
        found: from ``importance`` of the same layer's inputs.
        symmetric: without zero points.
        block: values that share a scale.
    """
    nearest = quantize_symmetric if symmetric else quantize_asymmetric
    grid = nearest(matrix, 4, block, importance=found.diagonal)
    order, root = found.order, found.root
    scales = np.repeat(grid.scales, block, axis=1)[:, order]
    scales[scales == 0] = 1
    zeros = np.full(grid.scales.shape, 8, np.uint8) if grid.zeros is None else grid.zeros
    middle = np.repeat(zeros, block, axis=1)[:, order].astype(np.float32)
    # Column by column, so that each is contiguous.
    left, scales, middle = (np.ascontiguousarray(x.T) for x in (matrix[:, order], scales, middle))
    chosen = np.empty(left.shape, np.uint8)
    for start in range(0, len(left), AT_ONCE):
        stop = min(start + AT_ONCE, len(left))
        errors = np.empty((stop - start, left.shape[1]), np.float32)
        for n in range(start, stop):
            steps = np.clip(np.rint(left[n] / scales[n]) + middle[n], 0, 15)
            chosen[n] = steps
            errors[n - start] = (left[n] - (steps - middle[n]) * scales[n]) / root[n, n]
            left[n + 1 : stop] -= np.outer(root[n, n + 1 : stop], errors[n - start])
        left[stop:] -= root[start:stop, stop:].T @ errors
    values = np.empty(matrix.shape, np.uint8)
    values[:, order] = chosen.T
    return QuantBlocks(
        bits=4,
        values=values.reshape(len(matrix), -1, block),
        scales=grid.scales,
        zeros=grid.zeros,
        rounded=True,
    )


def join_columns(parts: list[QuantBlocks]) -> QuantBlocks:
    """Strips of columns, whole blocks each, as one matrix; all are of one kind."""
    zeros = [p.zeros for p in parts if p.zeros is not None]
    return QuantBlocks(
        bits=parts[0].bits,
        values=np.concatenate([p.values for p in parts], axis=1),
        scales=np.concatenate([p.scales for p in parts], axis=1),
        zeros=np.concatenate(zeros, axis=1) if zeros else None,
        rounded=parts[0].rounded,
    )
