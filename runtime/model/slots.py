"""The slots of a KV cache that stays in place: how many are filled, and how some are given up."""

from __future__ import annotations

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import KVLayout
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import StatefulGraph
from edgevlm.runtime.model.conv_state import ConvState
from edgevlm.runtime.model.eviction import moved
from edgevlm.runtime.model.rope import RopeSlots
from edgevlm.tensors import Array


class Slotted:
    """What decoders have in common whose keys and values lie in slots of one buffer a layer.

    Args:
        layout: of the cache.
        spec: shape of the decoder.
    """

    _state: StatefulGraph  # bound by the decoder itself

    def __init__(self, layout: KVLayout, spec: DecoderSpec) -> None:
        self.capacity = layout.capacity
        self.length = 0
        self.wide = not spec.prefix_attention
        self.rewinds = layout.conv is None
        self.evicts = self.wide and self.rewinds  # positions can be taken out of the middle
        self._spec = spec
        self._conv = None if layout.conv is None else ConvState(layout.conv)
        self._slots = None if spec.mrope_section is None else RopeSlots(spec, layout.capacity)
        self._moved: dict[str, Array] = {}  # what the next call must find in the cache

    def room(self, rows: int) -> int:
        """Positions that are left behind so many further rows; below 0, they do not fit."""
        return self.capacity - self.length - rows

    @property
    def position(self) -> int:
        """Rotary position of the next row."""
        return self.length if self._slots is None else self._slots.next(self.length)

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on.

        Raises:
            ContractError: the cache is shorter than that, or holds convolutions whose state at
                that position was not marked.
        """
        if not 0 <= length <= self.length:
            raise ContractError(f"cannot rewind to {length}: the cache holds {self.length}")
        if self._conv is not None:
            self._conv.rewind(length, self.length)
        self.length = length

    def mark(self) -> None:
        """Keep what it takes to come back to this position."""
        if self._conv is not None:
            self._conv.mark(self.length, self._state)

    def evict(self, start: int, stop: int) -> None:
        """Forget the positions from ``start`` to before ``stop``; see ``eviction``.

        What was computed behind them stays as it was computed, in their sight.

        Raises:
            ContractError: no such positions, or a cache that does not let go: its prompt sees
                itself in both directions, it has convolutions, whose marked states are of fixed
                positions, or the graph does not update it in place.
        """
        if not 0 <= start <= stop <= self.length:
            raise ContractError(f"cannot evict {start} to {stop}: the cache holds {self.length}")
        if not self.evicts:
            raise ContractError("nothing can be evicted from this decoder's cache")
        distance = stop - start if self._slots is None else self._slots.evict(start, stop)
        slots = (start, stop, self.length)
        self._moved = dict(moved(self._state, self._spec, slots, distance, self._moved))
        self.length -= stop - start

    def _to_begin_with(self) -> dict[str, Array]:
        """Inputs by which the next call finds the cache as it was left; once."""
        feeds = self._moved if self._conv is None else {**self._moved, **self._conv.feeds()}
        self._moved = {}
        return feeds
