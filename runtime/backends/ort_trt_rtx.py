"""TensorRT-RTX through NVIDIA's plug-in provider for ONNX Runtime. Not yet run on hardware."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.engine_view import local_cache
from edgevlm.runtime.backends.ort_session import OrtBackend, Provider, import_ort
from edgevlm.runtime.backends.ort_slots import Place

PACKAGES = ("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime-ep-nv-tensorrt-rtx-cu12")


class OrtTrtRtxBackend(OrtBackend):
    """TensorRT-RTX for GeForce and RTX cards: engines are compiled at the first run, and kept.

    It runs bundles of ``--precision fp16``: attention is a plug-in of the provider.

    Args:
        options: threads, and whether the CPU may compute what the provider cannot.

    Raises:
        BackendUnavailable: no plug-in, no driver, or no card that it supports.
    """

    def __init__(self, options: EngineOptions) -> None:
        ort = import_ort("ort-trt-rtx", "ort-trt-rtx")
        device = plugin_device(ort)
        memory = device.memory_info(ort.OrtDeviceMemoryType.DEFAULT)
        provider = Provider(
            name=device.ep_name,
            place=Place(ort=ort, device="gpu", apart=True, memory=memory),
            graph_option="enable_cuda_graph",
            devices=(device,),
        )
        super().__init__("ort-trt-rtx", ort, provider, options)

    def versions(self) -> dict[str, str]:
        """Of onnxruntime and the plug-in."""
        return super().versions() | plugin_version()

    def select(self, bundle: Bundle) -> Bundle:
        """The bundle's own graphs; what is compiled of them is kept for this machine."""
        device = cuda_device()
        facts = (*self.versions().values(), device.cuda, device.sm, device.name)
        folder = local_cache("ort-trt-rtx", bundle, *facts)
        self._provider = replace(self._provider, options={"nv_runtime_cache_path": str(folder)})
        return bundle


def plugin_version() -> dict[str, str]:
    """Package and version of the plug-in, where it is installed."""
    for package in PACKAGES:
        try:
            return {package: version(package)}
        except PackageNotFoundError:
            continue
    return {}


def plugin_device(ort: Any) -> Any:
    """Register the plug-in with ONNX Runtime, once a process, and give its first device.

    Raises:
        BackendUnavailable: it is not installed, does not load, or finds no card.
    """
    try:
        import onnxruntime_ep_nv_tensorrt_rtx as plugin
    except ImportError as exc:
        raise BackendUnavailable(
            f"backend 'ort-trt-rtx' needs NVIDIA's plug-in ({exc}): pip install "
            "'edgevlm[ort-trt-rtx]'"
        ) from exc
    cuda_device()
    name = plugin.get_ep_name()

    def devices() -> list[Any]:
        return [d for d in ort.get_ep_devices() if d.ep_name == name]

    try:
        if not devices():
            ort.register_execution_provider_library(name, plugin.get_library_path())
        found = devices()
    except Exception as exc:  # onnxruntime's exception types are not public
        raise BackendUnavailable(f"NVIDIA's plug-in does not load: {exc}") from exc
    if not found:
        raise BackendUnavailable(
            f"{name} finds no card that it supports: GeForce and RTX from Ampere (sm86) on"
        )
    return found[0]
