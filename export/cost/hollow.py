"""Weights of the right shapes and nothing in them: a graph can be counted without its numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.checkpoint.tensors import Tensors
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32


class _Shaped(Protocol):
    @property
    def names(self) -> frozenset[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...


class HollowTensors:
    """A checkpoint's tensors as zeros, of which the system makes no pages until they are written.

    Args:
        tensors: of which only names and shapes are read.
    """

    def __init__(self, tensors: _Shaped) -> None:
        self._tensors = tensors

    @property
    def names(self) -> frozenset[str]:
        """Every stored name."""
        return self._tensors.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return self._tensors.shape(name)

    def get(self, name: str) -> Float32:
        """Zeros, float32."""
        return np.zeros(self.shape(name), np.float32)

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - these are floats
        """None: precisions are reckoned from shapes."""
        return None


class HollowCheckpoint(Checkpoint):
    """A checkpoint folder whose tensors are not read."""

    @cached_property
    def tensors(self) -> Tensors:
        """Every tensor under its stored name, as zeros."""
        return HollowTensors(super().tensors)


class _Source(Protocol):
    def has(self, name: str) -> bool: ...
    def shape(self, name: str) -> tuple[int, ...]: ...


class HollowSource:
    """The same of a ``WeightSource``.

    Args:
        source: of which only names and shapes are read.
    """

    def __init__(self, source: _Source) -> None:
        self._source = source

    def has(self, name: str) -> bool:
        """True if the source holds this weight."""
        return self._source.has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape."""
        return self._source.shape(name)

    def get(self, name: str) -> Float32:
        """Zeros, float32."""
        return np.zeros(self.shape(name), np.float32)

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - these are floats
        """None: precisions are reckoned from shapes."""
        return None
