"""A backend that notes how long its graphs ran: what is left is our own overhead."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from edgevlm.bundle import Bundle
from edgevlm.runtime.backends.base import Backend, Graph, StatefulGraph
from edgevlm.tensors import Array, TensorSpec


class TimedBackend:
    """Wraps another backend.

    Args:
        backend: runs the graphs. Time inside them adds up in ``graph_s``.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = backend.name
        self.target = backend.target
        self.graph_s = 0.0

    def versions(self) -> dict[str, str]:
        """Those of the wrapped backend."""
        return self._backend.versions()

    def select(self, bundle: Bundle) -> Bundle:
        """As the wrapped backend selects."""
        return self._backend.select(bundle)

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load on the wrapped backend."""
        return _TimedGraph(self, self._backend.load(graph, burst=burst))


class _TimedGraph:
    def __init__(self, owner: TimedBackend, graph: Graph) -> None:
        self._owner = owner
        self._graph = graph

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        begun = time.perf_counter()
        try:
            return self._graph.run(feeds)
        finally:
            self._owner.graph_s += time.perf_counter() - begun

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        return _TimedState(self._owner, self._graph.bind(state))

    def close(self) -> None:
        self._graph.close()


class _TimedState:
    def __init__(self, owner: TimedBackend, state: StatefulGraph) -> None:
        self._owner = owner
        self._state = state

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        begun = time.perf_counter()
        try:
            self._state.run(feeds, shapes)
        finally:
            self._owner.graph_s += time.perf_counter() - begun

    def output(self, name: str) -> Array:
        return self._state.output(name)

    def memory(self, name: str) -> Array | None:
        return self._state.memory(name)

    def store(self, rows: Mapping[str, str], at: int) -> None:
        self._state.store(rows, at)

    def close(self) -> None:
        self._state.close()
