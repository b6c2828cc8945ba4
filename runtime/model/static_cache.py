"""Keys and values of a decoder graph for TensorRT: positions go in, the mask is made inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgevlm.runtime.backends.base import Graph, StatefulGraph
from edgevlm.tensors import Array

POSITIONS = "positions"
PARTS = ("key", "value")


def takes_positions(graph: Graph) -> bool:
    """True for decoders of the lowerings ``onnx-std`` and ``trt10-compat``.

    An engine stands for the bundle's graph and was lowered otherwise: its inputs tell.
    """
    return any(t.name == POSITIONS for t in graph.inputs)


class StaticCache:
    """Buffers of a fixed number of slots, and how a call fills them.

    ``onnx-std`` updates them in place: ``pairs`` are to be bound. ``trt10-compat`` leaves them as
    they are and gives the new rows, which are put into the slots behind every call.

    Args:
        graph: the loaded decoder.
        names: of its keys and values, such as ``0.key``.
    """

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        given = {t.name: t for t in graph.outputs}
        pasts = {name: f"past_key_values.{name}" for name in names}
        in_place = f"present.{names[0]}" in given
        self.pairs = {f"present.{n}": past for n, past in pasts.items()} if in_place else {}
        self._new = {} if in_place else {f"new.{n}": past for n, past in pasts.items()}
        self._shapes = {name: given[name].shape for name in self._new}
        # What the first call begins with, where the graph does not own its cache.
        owned = set(self._new.values())
        self._empty: dict[str, Array] = {
            t.name: np.zeros([d for d in t.shape if isinstance(d, int)], t.dtype)
            for t in graph.inputs
            if t.name in owned
        }

    def run(
        self,
        state: StatefulGraph,
        begun: int,
        count: int,
        feeds: Mapping[str, Array],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        """One call of ``count`` rows, the first in slot ``begun``.

        Args:
            state: the bound decoder.
            begun: rows in the cache before.
            count: of this call.
            feeds: its other inputs.
            shapes: of its other outputs.
        """
        positions = np.arange(begun, begun + count, dtype=np.int64)[None]
        new = {
            name: tuple(d if isinstance(d, int) else count for d in shape)
            for name, shape in self._shapes.items()
        }
        state.run({**feeds, POSITIONS: positions, **self._empty}, {**shapes, **new})
        self._empty = {}
        if self._new:
            state.store(self._new, begun)
