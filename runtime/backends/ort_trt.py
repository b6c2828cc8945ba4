"""TensorRT through ONNX Runtime's provider. Not yet run on hardware."""

from __future__ import annotations

import logging
from dataclasses import replace

from edgevlm.bundle import Bundle
from edgevlm.bundle.engines import Platform
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.cuda.open import open_cuda
from edgevlm.runtime.backends.engine_view import engine_view, local_cache
from edgevlm.runtime.backends.ort_cuda import require
from edgevlm.runtime.backends.ort_session import OrtBackend, Provider, import_ort
from edgevlm.runtime.backends.ort_slots import Place

_log = logging.getLogger(__name__)

TENSORRT = "TensorrtExecutionProvider"


class OrtTrtBackend(OrtBackend):
    """ONNX Runtime's TensorRT provider, on what ``edgevlm build --target ort-trt`` made.

    The bundle's own decoder would be cut into dozens of pieces: its fused operators are not
    TensorRT's.

    Args:
        options: threads, whether the CPU may compute what TensorRT cannot, whose engines to trust.

    Raises:
        BackendUnavailable: no such provider, no driver or no GPU.
    """

    target = "ort-trt"

    def __init__(self, options: EngineOptions) -> None:
        ort = import_ort("ort-trt", "cuda")
        require(
            ort,
            "ort-trt",
            TENSORRT,
            "pip install 'edgevlm[cuda]' and TensorRT 10's libraries, or use the backend trt",
        )
        provider = Provider(
            name=TENSORRT,
            place=Place(ort=ort, device="cuda", apart=True, cuda=row_copies()),
            options={"device_id": "0", "trt_fp16_enable": "1"},  # the engine's own types decide
            graph_option="trt_cuda_graph_enable",
        )
        super().__init__("ort-trt", ort, provider, options)

    def select(self, bundle: Bundle) -> Bundle:
        """The graphs that were built for this provider and machine; see ``Backend``."""
        device = cuda_device()
        version = str(self._ort.__version__)
        here = Platform(
            library="onnxruntime",
            version=version,
            cuda=device.cuda,
            sm=device.sm,
            device=device.name,
        )
        trust = self._options.trust_engines
        view = engine_view(bundle, self.target, here, trust=trust)
        folder = local_cache("ort-trt", bundle, version, device.cuda, device.sm, device.name)
        self._provider = replace(
            self._provider, options={**self._provider.options, **cached(str(folder))}
        )
        return view


def row_copies() -> Device | None:
    """What copies new rows into the cache on the GPU; None where CUDA cannot be called directly."""
    try:
        return Device(open_cuda())
    except BackendUnavailable as exc:
        _log.info("new rows go into the cache by the host: %s", exc)
        return None


def cached(folder: str) -> dict[str, str]:
    """The provider's settings that keep engines and kernel timings in ``folder``."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_context_memory_sharing_enable": "1",  # tower and decoder never run together
    }
