"""A backend that says what it was told to: for tests of everything above an engine.

It ships with the package, so that users test their own streams the way edgevlm does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, Manifest
from edgevlm.bundle.manifest import GraphEntry
from edgevlm.errors import BackendError
from edgevlm.runtime.backends.base import Graph, StatefulGraph
from edgevlm.tensors import Array, TensorSpec


def _nothing() -> None:
    """The default hook."""


class ScriptedBackend:
    """Answers with given tokens.

    A call that wants logits of fewer rows than it has is a prefill, and begins the answer anew;
    another goes on with it, at any of its positions. Behind the last token that one is repeated.

    Args:
        manifest: of the bundle whose graphs it stands for; shapes come from there.
        tokens: the answer. End it with one of the manifest's stop tokens, or it never ends.
        before_step: called before every decoder step, to advance a clock or to raise.
    """

    name = "scripted"
    target = None
    rows_alike = True  # there is nothing to measure about its kernels

    def __init__(
        self,
        manifest: Manifest,
        tokens: Sequence[int],
        before_step: Callable[[], None] = _nothing,
    ) -> None:
        self._manifest = manifest
        self._script = tuple(tokens)
        self._before_step = before_step

    def versions(self) -> dict[str, str]:
        """Nothing is behind it."""
        return {}

    def select(self, bundle: Bundle) -> Bundle:
        """The bundle as it is."""
        return bundle

    def load(self, graph: Path, *, burst: bool = False) -> Graph:  # noqa: ARG002 - nothing spins
        """Stand for the graph of this file name.

        Raises:
            BackendError: the manifest has no such graph.
        """
        for entry in self._manifest.graphs.values():
            if entry.file == graph.name:
                return _ScriptedGraph(entry, self._script, self._before_step)
        raise BackendError(f"{graph.name} is not a graph of {self._manifest.name}")


class _ScriptedGraph:
    def __init__(
        self, entry: GraphEntry, script: tuple[int, ...], before_step: Callable[[], None]
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] = tuple(t.spec() for t in entry.inputs)
        self.outputs: tuple[TensorSpec, ...] = tuple(t.spec() for t in entry.outputs)
        self._script = script
        self._before_step = before_step

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        for spec in self.inputs:
            spec.check(feeds[spec.name])
        return {
            spec.name: np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
            for spec in self.outputs
        }

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        known = {s.name for s in self.inputs}
        if lost := sorted(set(state.values()) - known):
            raise BackendError(f"state inputs that the graph lacks: {lost}")
        return _ScriptedState(self._script, self._before_step, frozenset(state))

    def close(self) -> None:
        pass


class _ScriptedState:
    def __init__(
        self, script: tuple[int, ...], before_step: Callable[[], None], state: frozenset[str]
    ) -> None:
        self._script = script
        self._state = state
        self._before_step = before_step
        self._logits = np.zeros((1, 1), np.float32)
        self._begin = 0  # position behind the prompt

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._before_step()
        self._logits = np.zeros(shapes["logits"], np.float32)
        wanted, end = len(self._logits), int(feeds["total_sequence_length"])
        if feeds["inputs_embeds"].shape[1] > wanted:
            self._begin = end - wanted + 1
        for row in range(wanted):
            said = end - wanted + 1 + row - self._begin
            self._logits[row, self._script[max(0, min(said, len(self._script) - 1))]] = 20.0

    def output(self, name: str) -> Array:
        if name in self._state:
            return np.zeros(1, np.float32)
        if name != "logits":
            raise BackendError(f"the script has no output {name!r}")
        return self._logits

    def memory(self, name: str) -> Array | None:  # noqa: ARG002
        """There is none."""
        return None

    def store(self, rows: Mapping[str, str], at: int) -> None:
        """Nothing is remembered: the script goes on as it is written."""

    def close(self) -> None:
        pass
