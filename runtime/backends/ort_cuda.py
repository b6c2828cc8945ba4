"""ONNX Runtime on an NVIDIA GPU. Not yet run on hardware."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.ort_session import OrtBackend, Provider, import_ort
from edgevlm.runtime.backends.ort_slots import Place

CUDA = "CUDAExecutionProvider"
OPTIONS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",  # twice what is needed is too much on 8 GB
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE takes minutes to start on a Jetson
    "use_tf32": "0",  # float32 means float32: the certificate's gates hold
}


def require(ort: Any, backend: str, provider: str, remedy: str) -> None:
    """Make sure that a provider and a GPU are there.

    Raises:
        BackendUnavailable: this onnxruntime lacks the provider, or there is no driver or no GPU.
    """
    if provider not in (known := ort.get_available_providers()):
        there = ", ".join(known)
        raise BackendUnavailable(
            f"backend {backend!r} needs {provider}; onnxruntime {ort.__version__} here has "
            f"{there}: {remedy}"
        )
    cuda_device()
    if hasattr(ort, "preload_dlls"):  # finds CUDA and cuDNN that pip installed; it prints
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls(msvc=False)


class OrtCudaBackend(OrtBackend):
    """ONNX Runtime's CUDA provider: the KV cache stays on the GPU, decode steps are CUDA graphs.

    Args:
        options: threads, and whether the CPU may compute what has no CUDA kernel.

    Raises:
        BackendUnavailable: no such provider, no driver or no GPU.
    """

    def __init__(self, options: EngineOptions) -> None:
        ort = import_ort("ort-cuda", "cuda")
        require(
            ort,
            "ort-cuda",
            CUDA,
            "pip uninstall onnxruntime, then pip install 'edgevlm[cuda]'; a Jetson needs "
            "JetPack's build",
        )
        provider = Provider(
            name=CUDA,
            place=Place(ort=ort, device="cuda"),
            options=OPTIONS,
            graph_option="enable_cuda_graph",
        )
        super().__init__("ort-cuda", ort, provider, options)
