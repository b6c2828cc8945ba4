"""Pixels as bytes and back, in the form they came in: what a gate sees stays the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from edgevlm.frame import ArrayPixels, Pixels

Spilled = tuple[list[memoryview], Callable[[bytes], Pixels]]


@runtime_checkable
class Spillable(Protocol):
    """Pixels that know their own bytes."""

    def spill(self) -> Spilled | None:
        """Buffers, and what makes equal pixels of their joined bytes; None: this one cannot."""
        ...


def spill(pixels: Pixels) -> Spilled:
    """Buffers and what restores them; as RGB for pixels that do not know their own bytes."""
    if isinstance(pixels, Spillable) and (spilled := pixels.spill()) is not None:
        return spilled
    image = np.ascontiguousarray(pixels.rgb())
    shape = image.shape

    def restore(data: bytes) -> Pixels:
        return ArrayPixels(np.frombuffer(data, np.uint8).reshape(shape))

    return [image.data], restore
