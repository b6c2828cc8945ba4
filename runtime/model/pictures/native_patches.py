"""SigLIP2-NaFlex: whole patches in the picture's own aspect ratio, as many as there may be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import ImageSpec, NativePatches
from edgevlm.runtime.model.pictures.fit import resized
from edgevlm.runtime.model.pictures.interpolate import antialiased_matrix
from edgevlm.runtime.model.pictures.prepared import Prepared, size_of
from edgevlm.tensors import Array

UInt8 = NDArray[np.uint8]
FINEST = 1e-5  # difference of two scales that is searched no further
LARGEST = 100.0


def prepare(image_rgb: UInt8, spec: ImageSpec, policy: NativePatches) -> Prepared:
    """Resize as transformers' ``Siglip2ImageProcessorPil`` does."""
    source = size_of(image_rgb)
    height, width = _size(*source, policy)
    return Prepared(
        pixels=(resized(image_rgb, height, width, spec),),
        source=source,
        token_grid=(height // policy.patch, width // policy.patch),
    )


def side_inputs(prepared: Prepared, policy: NativePatches) -> dict[str, Array]:
    """``position_rows`` ``(rows, table_side)`` and ``position_columns``, which resample a table."""
    assert prepared.token_grid is not None
    rows, columns = prepared.token_grid
    return {
        "position_rows": antialiased_matrix(policy.table_side, rows),
        "position_columns": antialiased_matrix(policy.table_side, columns),
    }


def _size(height: int, width: int, policy: NativePatches) -> tuple[int, int]:
    """The largest scale, by bisection, under which the picture's patches fit the budget."""

    def scaled(scale: float) -> tuple[int, int]:
        high, wide = (math.ceil(side * scale / policy.patch) for side in (height, width))
        return max(1, high) * policy.patch, max(1, wide) * policy.patch

    low, high = FINEST / 10, LARGEST
    while high - low >= FINEST:
        middle = (low + high) / 2
        rows, columns = (side // policy.patch for side in scaled(middle))
        if rows * columns <= policy.most_patches:
            low = middle
        else:
            high = middle
    return scaled(low)
