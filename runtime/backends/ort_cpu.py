"""ONNX Runtime on the CPU: the default backend."""

from __future__ import annotations

from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.ort_session import CPU, OrtBackend, Provider, import_ort
from edgevlm.runtime.backends.ort_slots import Place


class OrtCpuBackend(OrtBackend):
    """ONNX Runtime's CPU provider.

    Args:
        options: threads and spinning.

    Raises:
        BackendUnavailable: onnxruntime is not installed, or has no CPU provider.
    """

    def __init__(self, options: EngineOptions) -> None:
        ort = import_ort("ort-cpu", "cpu")
        if CPU not in (known := ort.get_available_providers()):
            raise BackendUnavailable(f"{CPU} is not in this onnxruntime, which has {known}")
        super().__init__(
            "ort-cpu", ort, Provider(name=CPU, place=Place(ort=ort, shared=True)), options
        )
