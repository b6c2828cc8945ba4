"""TensorRT itself, on what ``edgevlm build --target trt`` made. Not yet run on hardware."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.bundle.engines import Platform
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import BackendUnavailable, GraphRefused
from edgevlm.runtime.backends.base import EngineOptions, Graph
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.cuda.open import open_cuda
from edgevlm.runtime.backends.engine_view import engine_view
from edgevlm.runtime.backends.trt_api import open_engine
from edgevlm.runtime.backends.trt_graph import Scratch, TrtGraph


class EngineBackend:
    """What TensorRT and TensorRT-RTX have in common.

    Args:
        name: of the backend.
        trt: the library's module.
        device: where engines run.
        here: what an engine must have been compiled for.
        options: whose engines to trust.
    """

    captures = True

    def __init__(
        self, name: str, trt: Any, device: Device, here: Platform, options: EngineOptions
    ) -> None:
        self.name = name
        self._trt = trt
        self._device = device
        self._here = here
        self._trust = options.trust_engines
        self._scratch = Scratch(device)
        self._accepted: set[Path] = set()

    @property
    def target(self) -> str:
        """The target of ``edgevlm build`` whose engines it runs."""
        return self.name

    def versions(self) -> dict[str, str]:
        """Of TensorRT, and of what CUDA is called through."""
        return {
            self._here.library: self._here.version,
            "cuda": f"{self._device.facts.runtime} by {self._device.api.name}",
        }

    def select(self, bundle: Bundle) -> Bundle:
        """The engines that were built for this machine, each one checked; see ``Backend``."""
        view = engine_view(bundle, self.target, self._here, trust=self._trust)
        self._accepted |= {view.path(g.file) for g in view.manifest.graphs.values()}
        return view

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load an engine that ``select`` accepted; see ``Backend``.

        Raises:
            GraphRefused: ``select`` did not give this file.
            EngineMismatch: the library says that it is of another version or device.
            BackendError: it is damaged, or does not fit the memory.
        """
        if graph not in self._accepted:
            raise GraphRefused(f"{graph} was not checked: select the bundle before loading")
        engine, alive = open_engine(self._trt, graph)
        return TrtGraph(
            self._trt,
            engine,
            alive,
            self._device,
            self._scratch,
            self._context,
            captures=burst and self.captures and self._device.api.graphs,
            closing=self._closing,
        )

    def _closing(self) -> None:
        """Called when a graph is closed."""

    def _context(self, engine: Any) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return engine.create_execution_context(strategy)


class TrtBackend(EngineBackend):
    """TensorRT of this machine (10.3 and later; JetPack's own on a Jetson).

    Args:
        options: whose engines to trust.

    Raises:
        BackendUnavailable: no TensorRT, no driver or no GPU.
    """

    def __init__(self, options: EngineOptions) -> None:
        trt = import_tensorrt(
            "tensorrt",
            "on a Jetson: apt-get install python3-libnvinfer, in a virtual environment made with "
            "--system-site-packages; on a desktop: pip install tensorrt",
        )
        device, here = open_device("tensorrt", trt)
        super().__init__("trt", trt, device, here, options)


def import_tensorrt(module: str, remedy: str) -> Any:
    """TensorRT's Python module.

    Raises:
        BackendUnavailable: it is not installed, or one of its libraries is missing.
    """
    if importlib.util.find_spec(module) is None:
        raise BackendUnavailable(f"{module} is not on this machine; {remedy}")
    try:
        if module == "tensorrt":
            import tensorrt as found
        else:
            import tensorrt_rtx as found
    except (ImportError, OSError) as exc:
        raise BackendUnavailable(f"{module} is here and does not load ({exc}); {remedy}") from exc
    return found


def open_device(library: Any, trt: Any) -> tuple[Device, Platform]:
    """The GPU, and what an engine for it must have been compiled for.

    Raises:
        BackendUnavailable: no driver, no GPU, or no library to call CUDA through.
    """
    found = cuda_device()
    here = Platform(
        library=library,
        version=str(trt.__version__),
        cuda=found.cuda,
        sm=found.sm,
        device=found.name,
    )
    return Device(open_cuda()), here
