"""The shapes that an engine is compiled for: one profile whose ranges hold every call.

A second profile, for the decode step alone, doubles the engine on TensorRT-RTX, which keeps the
weights once a profile (``benchmarks/engine_profiles.py`` measures it). One engine with one range
serves prefill and decode; its ``opt`` shape is what the kernels are chosen for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgevlm.bundle.engines import Profile, ShapeRange
from edgevlm.bundle.entries import TensorEntry
from edgevlm.errors import ExportError


def profiles_of(
    inputs: Sequence[TensorEntry], ranges: Mapping[str, tuple[int, int, int]]
) -> tuple[Profile, ...]:
    """The range of every input with a free dimension; nothing where every shape is fixed.

    Args:
        inputs: of the graph.
        ranges: free dimension -> smallest, most frequent and largest size.

    Raises:
        ExportError: a free dimension has no range.
    """
    profile = {}
    for tensor in inputs:
        free = [d for d in tensor.shape if isinstance(d, str)]
        if lost := [d for d in free if d not in ranges]:
            raise ExportError(f"{tensor.name}: no range for {', '.join(lost)}")
        if free:
            low, usual, high = (
                tuple(ranges[d][i] if isinstance(d, str) else d for d in tensor.shape)
                for i in range(3)
            )
            profile[tensor.name] = ShapeRange(min=low, opt=usual, max=high)
    return (profile,) if profile else ()
