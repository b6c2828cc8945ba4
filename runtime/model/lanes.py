"""Several models over the same loaded graphs: the weights are there once, a KV cache for each.

They are used one at a time, but one may stop in the middle of an answer while another gives its
own. What a lane costs is its cache (``cache_bytes``) and, once its first question was asked, the
keys and values of that question's constant part in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgevlm.bundle import Bundle, Manifest, Verify, open_bundle
from edgevlm.runtime.backends.base import Backend, Graph, StatefulGraph
from edgevlm.runtime.model.budget import check_memory
from edgevlm.runtime.model.load import ON_HOST, open_backend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.tensors import Array, TensorSpec


class SharedGraphs:
    """A backend that loads every graph once; it is released when all that use it have closed.

    Args:
        backend: loads them.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._selected: Bundle | None = None
        self._graphs: dict[tuple[Path, bool], _Shared] = {}

    @property
    def name(self) -> str:
        """That of the backend."""
        return self._backend.name

    @property
    def target(self) -> str | None:
        """That of the backend."""
        return self._backend.target

    @property
    def rows_alike(self) -> bool:
        """As the backend says it."""
        return bool(getattr(self._backend, "rows_alike", False))

    def versions(self) -> dict[str, str]:
        """Those of the backend."""
        return self._backend.versions()

    def select(self, bundle: Bundle) -> Bundle:
        """As the backend does, looked at once."""
        if self._selected is None:
            self._selected = self._backend.select(bundle)
        return self._selected

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """The graph, loaded by whoever wanted it first; see ``Backend``."""
        key = (graph, burst)
        if key not in self._graphs or not self._graphs[key].users:
            self._graphs[key] = _Shared(self._backend.load(graph, burst=burst))
        return _Use(self._graphs[key])


class _Shared:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = 0


class _Use:
    """A graph for one of its users; see ``Graph``."""

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared
        self._graph = shared.graph
        shared.users += 1

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        return self._graph.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once."""
        return self._graph.run(feeds)

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        """State of this user's own."""
        return self._graph.bind(state)

    def close(self) -> None:
        """Release the graph if nobody else uses it; may be called twice."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.users -= 1
            if not shared.users:
                shared.graph.close()


def load_lanes(
    count: int,
    bundle: str | os.PathLike[str],
    *,
    backend: str = "ort-cpu",
    threads: int = 0,
    spin: bool = True,
    verify: Verify = "once",
    cpu_fallback: bool = False,
    trust_engines: bool = False,
    visual_tokens: int | None = None,
) -> list[Vlm]:
    """``count`` models over one bundle, loaded once; arguments and errors as in ``load``."""
    shared = SharedGraphs(
        open_backend(backend, threads, spin, cpu_fallback=cpu_fallback, trust_engines=trust_engines)
    )
    opened = open_bundle(bundle, verify)
    if backend == ON_HOST:
        check_memory(opened.manifest, count)
    return [Vlm(opened, shared, visual_tokens=visual_tokens) for _ in range(count)]


def cache_bytes(manifest: Manifest) -> int:
    """Bytes of the keys and values of one lane at its full context."""
    layout = manifest.language.kv
    return layout.capacity * layout.bytes_per_token + layout.conv_bytes
