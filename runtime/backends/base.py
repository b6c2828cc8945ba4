"""What the model room asks of an engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError, BackendMemoryError
from edgevlm.tensors import Array, TensorSpec

_MEMORY_ENDED = re.compile(r"bad.?alloc|failed to allocate|out of memory", re.IGNORECASE)


def engine_error(
    said: str, error: Exception, otherwise: type[BackendError] = BackendError
) -> BackendError:
    """The error for what an engine raised: memory that ended is told apart by its words."""
    memory = isinstance(error, MemoryError) or _MEMORY_ENDED.search(str(error))
    return (BackendMemoryError if memory else otherwise)(f"{said}: {error or 'out of memory'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Settings that every backend understands.

    Args:
        threads: intra-op threads; 0 leaves the choice to the engine (physical cores).
        spin: let idle workers spin between operators. Faster alone on the machine, slower when
            a camera or another process shares the cores.
        cpu_fallback: let the CPU compute what a GPU provider of ONNX Runtime has no kernels for.
        trust_engines: load compiled engines that this device did not make.
    """

    threads: int = 0
    spin: bool = True
    cpu_fallback: bool = False
    trust_engines: bool = False


class StatefulGraph(Protocol):
    """A graph whose state (a KV cache) stays in place between calls. One caller at a time."""

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Run once on ``feeds``; outputs named in ``shapes`` are written to reused buffers.

        A state's input may be among the feeds: the call then begins with that value. An input that
        is left out keeps what the last call gave it.
        """
        ...

    def output(self, name: str) -> Array:
        """The last value of an output (a state's too), valid until the next ``run``."""
        ...

    def store(self, rows: Mapping[str, str], at: int) -> None:
        """Copy outputs of the last run into inputs, which keep them for the next ones.

        Args:
            rows: output -> input; both ``(..., rows, width)``, the input with more rows. The
                input was among the feeds of an earlier run.
            at: the input's row that the output's first one goes to.
        """
        ...

    def memory(self, name: str) -> Array | None:
        """A state's own memory, to read and write between runs; None where the host has none."""
        ...

    def close(self) -> None:
        """Release the state; may be called twice."""
        ...


class Graph(Protocol):
    """One exported graph, loaded. Not thread-safe: one per worker."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Raises:
            ContractError: a missing, unknown or ill-shaped input, by name.
            BackendError: the engine failed.
        """
        ...

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        """Give ``state`` (output name -> input name) buffers that both sides share, zeroed."""
        ...

    def close(self) -> None:
        """Release the graph; may be called twice."""
        ...


class Backend(Protocol):
    """Loads graphs on one device."""

    @property
    def name(self) -> str:
        """The registry name, as events report it."""
        ...

    @property
    def target(self) -> str | None:
        """The target of ``edgevlm build`` whose engines it runs; None: the bundle's own graphs."""
        ...

    def select(self, bundle: Bundle) -> Bundle:
        """The bundle with the graphs that this backend runs: its own, or engines made of them.

        What comes back says of its graphs and its cache what is to be loaded; its ``id`` means
        nothing.

        Raises:
            BackendUnavailable: the bundle has no engine for this backend; says how to build it.
            EngineMismatch: it has one of another device, version or bundle, or a damaged one.
            EngineUntrusted: it has one that this device did not make.
        """
        ...

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load a graph.

        Args:
            graph: the file of one of the graphs of a bundle that ``select`` gave.
            burst: runs follow each other closely, as decode steps do: workers may spin from one
                to the next. Otherwise they stop with the run, and leave the cores to others.

        Raises:
            BackendError: the engine refuses it.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Library -> version, for reports."""
        ...
