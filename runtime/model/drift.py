"""How far each layer of a graph drifts, told by graphs that compute their layers twice.

``python -m edgevlm.runtime.model.drift BUNDLE`` runs the probe through a staged bundle whose graphs
have outputs ``drift.LAYER`` (scalars: squared error over squared output), and prints the mean of
each as JSON: ``{"graph/drift.LAYER": 0.01}``. The exporter runs it as a child process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from edgevlm.bundle import Bundle, read_manifest
from edgevlm.runtime.backends.base import Backend, Graph, StatefulGraph
from edgevlm.runtime.model.certify import certify
from edgevlm.runtime.model.load import open_backend
from edgevlm.tensors import Array, TensorSpec

PREFIX = "drift."


class Listening:
    """A backend that keeps what graphs say under ``drift.`` to itself.

    Args:
        inner: the backend that runs them.
        root: of the bundle, whose graphs are named by their files.
    """

    def __init__(self, inner: Backend, root: Path) -> None:
        self._inner = inner
        self._root = root
        self.heard: dict[str, list[float]] = {}

    @property
    def name(self) -> str:
        """The inner backend's name."""
        return self._inner.name

    @property
    def target(self) -> str | None:
        """The inner backend's."""
        return self._inner.target

    def versions(self) -> dict[str, str]:
        """The inner backend's versions."""
        return self._inner.versions()

    def select(self, bundle: Bundle) -> Bundle:
        """As the inner backend selects."""
        return self._inner.select(bundle)

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load a graph, whose further outputs are not shown."""
        place = str(graph.relative_to(self._root).with_suffix(""))
        return _Graph(self._inner.load(graph, burst=burst), place, self.heard)


class _Graph:
    def __init__(self, inner: Graph, place: str, heard: dict[str, list[float]]) -> None:
        self._inner = inner
        self._place = place
        self._heard = heard
        self.inputs: tuple[TensorSpec, ...] = inner.inputs
        self.outputs = tuple(s for s in inner.outputs if not s.name.startswith(PREFIX))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = self._inner.run(feeds)
        for name in [n for n in found if n.startswith(PREFIX)]:
            _hear(self._heard, f"{self._place}/{name}", found.pop(name))
        return found

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        names = [s.name for s in self._inner.outputs if s.name.startswith(PREFIX)]
        return _Stateful(self._inner.bind(state), names, self._place, self._heard)

    def close(self) -> None:
        self._inner.close()


class _Stateful:
    def __init__(
        self, inner: StatefulGraph, names: list[str], place: str, heard: dict[str, list[float]]
    ) -> None:
        self._inner = inner
        self._names = names
        self._place = place
        self._heard = heard

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._inner.run(feeds, {**shapes, **{name: () for name in self._names}})
        for name in self._names:
            _hear(self._heard, f"{self._place}/{name}", self._inner.output(name))

    def output(self, name: str) -> Array:
        return self._inner.output(name)

    def memory(self, name: str) -> Array | None:
        return self._inner.memory(name)

    def store(self, rows: Mapping[str, str], at: int) -> None:
        self._inner.store(rows, at)

    def close(self) -> None:
        self._inner.close()


def _hear(heard: dict[str, list[float]], name: str, value: Array) -> None:
    heard.setdefault(name, []).append(float(value))


def main(arguments: list[str]) -> int:
    """Print the mean of every layer's drift."""
    root = Path(arguments[0])
    backend = Listening(open_backend("ort-cpu", spin=False), root)
    certify(Bundle(root, read_manifest(root)), backend)
    means = {name: sum(values) / len(values) for name, values in backend.heard.items()}
    sys.stdout.write(json.dumps(means) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
