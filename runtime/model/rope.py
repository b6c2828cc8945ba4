"""Cosines and sines of rotary positions in which pictures have rows and columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import ContractError
from edgevlm.rope import frequencies
from edgevlm.runtime.model.rows import Rows
from edgevlm.tensors import Array, Float32


class MultimodalRope:
    """Angles of ``(time, row, column)`` positions.

    Args:
        spec: of a decoder with an ``mrope_section``.

    Raises:
        ContractError: the decoder has none.

    Source: Qwen2-VL (Wang et al., 2024), section 2.1; the interleaved order is Qwen3-VL's.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        if spec.mrope_section is None:
            raise ContractError("this decoder has no multimodal rotary positions")
        pairs = spec.head_dim // 2
        self._frequencies = frequencies(spec)
        # Which of the three positions turns each pair.
        if spec.mrope_interleaved:
            source = np.zeros(pairs, np.int64)
            for axis in (1, 2):
                source[axis : 3 * spec.mrope_section[axis] : 3] = axis
        else:
            source = np.repeat(np.arange(3), spec.mrope_section)
        self._source = source

    def rows(self, positions: NDArray[np.int64]) -> tuple[Float32, Float32]:
        """Cosine and sine of each row.

        Args:
            positions: int64 ``(3, rows)``.

        Returns:
            two float32 arrays ``(rows, head_dim / 2)``.
        """
        angles = positions[self._source].T * self._frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class RopeSlots:
    """The rotary position of every slot of the cache, and the tables made of them.

    Args:
        spec: of a decoder with an ``mrope_section``.
        capacity: slots.
    """

    def __init__(self, spec: DecoderSpec, capacity: int) -> None:
        self._rope = MultimodalRope(spec)
        self._next = np.zeros(capacity + 1, np.int64)  # behind slot n - 1, whatever was there
        shape = (capacity, spec.head_dim // 2)
        self._tables = {name: np.zeros(shape, np.float32) for name in ("rope_cos", "rope_sin")}

    def next(self, length: int) -> int:
        """Rotary position of what comes behind ``length`` slots."""
        return int(self._next[length])

    def evict(self, start: int, stop: int) -> int:
        """Take slots out; what is behind them moves up, in time, row and column alike.

        Returns:
            by how many positions.
        """
        distance = int(self._next[stop] - self._next[start])
        behind = self._next[stop:] - distance
        self._next[start : start + len(behind)] = behind
        return distance

    def place(self, begun: int, rows: Rows) -> Mapping[str, Array]:
        """Set the slots from ``begun`` on; the tables as the graph takes them."""
        positions, count = rows.positions, len(rows)
        if positions is None:
            positions = np.tile(np.arange(count) + self._next[begun], (3, 1))
        stop = begun + count
        reached = np.maximum.accumulate(positions.max(axis=0)) + 1
        self._next[begun + 1 : stop + 1] = np.maximum(reached, self._next[begun])
        self._tables["rope_cos"][begun:stop], self._tables["rope_sin"][begun:stop] = (
            self._rope.rows(positions)
        )
        return self._tables
