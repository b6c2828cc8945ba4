"""A graph that a machine is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.manifest import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedProbe:
    """A chain of square matrix products in one precision.

    The graph takes ``x``, ``(rows, width)``, and gives ``y`` of the same shape.

    Args:
        dtype: of ``x``.
        weight_bytes: of all matrices together, larger than caches.
        weights: numbers in them.
    """

    path: Path
    precision: Precision
    dtype: str
    width: int
    weight_bytes: int
    weights: int
