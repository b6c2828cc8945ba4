"""TensorRT-RTX, on what ``edgevlm build --target trt-rtx:smNN`` made. Not yet run on hardware."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.engine_view import local_cache
from edgevlm.runtime.backends.trt import EngineBackend, import_tensorrt, open_device


class TrtRtxBackend(EngineBackend):
    """TensorRT for GeForce and RTX cards.

    Its engines are finished at the first run, by a compiler that is part of it: what that made is
    kept in the cache folder. CUDA graphs are its own affair.

    Args:
        options: whose engines to trust.

    Raises:
        BackendUnavailable: no TensorRT-RTX, no driver or no GPU.
    """

    captures = False

    def __init__(self, options: EngineOptions) -> None:
        trt = import_tensorrt("tensorrt_rtx", "pip install 'edgevlm[trt-rtx]'")
        device, here = open_device("tensorrt-rtx", trt)
        super().__init__("trt-rtx", trt, device, here, options)
        self._kernels: Path | None = None
        self._runtime_cache: Any = None

    @property
    def target(self) -> str:
        """Its engines are compiled for one compute capability."""
        return f"trt-rtx:sm{self._here.sm}"

    def select(self, bundle: Bundle) -> Bundle:
        """As TensorRT's; the kernels of this bundle on this machine have a file of their own."""
        facts = (self._here.version, self._here.cuda, self._here.sm, self._here.device or "")
        self._kernels = local_cache("trt-rtx", bundle, *facts) / "kernels"
        return super().select(bundle)

    def _context(self, engine: Any) -> Any:
        trt = self._trt
        config = engine.create_runtime_config()
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._runtime_cache is None:
            self._runtime_cache = config.create_runtime_cache()
            if self._kernels is not None and self._kernels.is_file():
                # The library checks it, and leaves out what is not of this machine.
                self._runtime_cache.deserialize(self._kernels.read_bytes())
        config.set_runtime_cache(self._runtime_cache)
        return engine.create_execution_context(config)

    def _closing(self) -> None:
        """Keep the kernels that were compiled; what cannot be written is compiled again."""
        if self._runtime_cache is None or self._kernels is None:
            return
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self._kernels.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(memoryview(self._runtime_cache.serialize()))
            Path(name).replace(self._kernels)
