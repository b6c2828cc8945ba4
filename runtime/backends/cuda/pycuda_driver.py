"""CUDA through ``pycuda``: for machines that have it already. It has no graphs."""

from __future__ import annotations

import atexit
import ctypes
from typing import Any, NoReturn

import numpy as np

from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.runtime.backends.cuda import api
from edgevlm.runtime.backends.cuda.api import DeviceFacts, version_text


class PyCuda:
    """The CUDA driver as ``pycuda.driver`` gives it, in the device's primary context.

    TensorRT and ONNX Runtime work in the primary context, so that memory and streams of one are
    the other's too.

    Args:
        device: index of the GPU.

    Raises:
        BackendUnavailable: the package, the driver or the GPU is missing.
    """

    graphs = False

    def __init__(self, device: int = 0) -> None:
        try:
            import pycuda
            import pycuda.driver as driver
        except ImportError as exc:
            raise BackendUnavailable(f"pycuda: {exc}; pip install pycuda") from exc
        self._cuda: Any = driver
        self._version: str = pycuda.VERSION_TEXT
        self._kept: dict[int, Any] = {}  # its objects free themselves when nobody holds them
        try:
            driver.init()
            self._device = driver.Device(device)
            self._context = self._device.retain_primary_context()
            self._context.push()
            atexit.register(self._context.pop)  # pycuda aborts over a context left pushed
        except driver.Error as exc:
            raise BackendUnavailable(f"pycuda: {exc}: look at nvidia-smi") from exc

    @property
    def name(self) -> str:
        """Package and version."""
        return f"pycuda {self._version}"

    def _keep(self, key: int, value: Any) -> int:
        self._kept[key] = value
        return key

    def _failed(self, call: str, exc: Exception) -> NoReturn:
        raise BackendError(f"CUDA {call} failed: {exc}") from exc

    def facts(self) -> DeviceFacts:
        """The device's properties."""
        major, minor = self._device.compute_capability()
        kind = self._cuda.device_attribute.INTEGRATED
        return DeviceFacts(
            name=str(self._device.name()),
            sm=10 * major + minor,
            integrated=bool(self._device.get_attribute(kind)),
            runtime=version_text(int(self._cuda.get_driver_version())),
        )

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def malloc(self, nbytes: int) -> int:
        """Device memory."""
        try:
            memory = self._cuda.mem_alloc(nbytes)
        except self._cuda.Error as exc:
            self._failed("mem_alloc", exc)
        return self._keep(int(memory), memory)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._kept.pop(address).free()

    def host_alloc(self, nbytes: int) -> int:
        """Page-locked host memory."""
        flags = self._cuda.host_alloc_flags
        try:
            array = self._cuda.pagelocked_empty(
                (nbytes,), np.uint8, mem_flags=flags.PORTABLE | flags.DEVICEMAP
            )
        except self._cuda.Error as exc:
            self._failed("pagelocked_empty", exc)
        return self._keep(int(array.ctypes.data), array)

    def host_free(self, address: int) -> None:
        """Give page-locked memory back."""
        self._kept.pop(address).base.free()

    def host_pointer(self, address: int) -> int:
        """Where the device sees page-locked memory."""
        return int(self._kept[address].base.get_device_pointer())

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        """Enqueue a copy."""
        cuda, queue = self._cuda, self._kept[stream]
        window = ctypes.c_char * nbytes
        try:
            if kind == api.HOST_TO_DEVICE:
                cuda.memcpy_htod_async(target, window.from_address(source), queue)
            elif kind == api.DEVICE_TO_HOST:
                cuda.memcpy_dtoh_async(window.from_address(target), source, queue)
            else:
                cuda.memcpy_dtod_async(target, source, nbytes, queue)
        except cuda.Error as exc:
            self._failed("memcpy", exc)

    def copy_2d(
        self, target: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: int
    ) -> None:
        """Enqueue a copy of pieces."""
        copy = self._cuda.Memcpy2D()
        copy.set_dst_device(target[0])
        copy.dst_pitch = target[1]
        copy.set_src_device(source[0])
        copy.src_pitch = source[1]
        copy.width_in_bytes, copy.height = width, rows
        try:
            copy(self._kept[stream])
        except self._cuda.Error as exc:
            self._failed("memcpy 2D", exc)

    def fill(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        """Enqueue a fill."""
        try:
            self._cuda.memset_d8_async(target, byte, nbytes, self._kept[stream])
        except self._cuda.Error as exc:
            self._failed("memset", exc)

    def stream_create(self) -> int:
        """A non-blocking stream."""
        stream = self._cuda.Stream(api.NON_BLOCKING)
        return self._keep(int(stream.handle), stream)

    def stream_destroy(self, stream: int) -> None:
        """Release a stream."""
        del self._kept[stream]

    def stream_synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        try:
            self._kept[stream].synchronize()
        except self._cuda.Error as exc:
            self._failed("stream synchronize", exc)

    def stream_wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event."""
        self._kept[stream].wait_for_event(self._kept[event])

    def event_create(self) -> int:
        """An event with its time."""
        event = self._cuda.Event()
        return self._keep(id(event), event)

    def event_destroy(self, event: int) -> None:
        """Release an event."""
        del self._kept[event]

    def event_record(self, event: int, stream: int) -> None:
        """Enqueue an event."""
        self._kept[event].record(self._kept[stream])

    def event_elapsed_ms(self, first: int, second: int) -> float:
        """Device time between two events."""
        return float(self._kept[first].time_till(self._kept[second]))

    def capture_begin(self, stream: int) -> None:
        """Refused: see ``graphs``."""
        self._no_graphs(stream)

    def capture_end(self, stream: int) -> int:
        """Refused: see ``graphs``."""
        self._no_graphs(stream)

    def graph_launch(self, graph: int, stream: int) -> None:
        """Refused: see ``graphs``."""
        self._no_graphs(graph, stream)

    def graph_destroy(self, graph: int) -> None:
        """Refused: see ``graphs``."""
        self._no_graphs(graph)

    def _no_graphs(self, *_handles: int) -> NoReturn:
        raise BackendError(f"{self.name} has no CUDA graphs: pip install cuda-bindings")
