"""CUDA through NVIDIA's ``cuda-bindings`` (12 and 13)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.cuda import api
from edgevlm.runtime.backends.cuda.api import DeviceFacts, failure, version_text


class CudaBindings:
    """The CUDA runtime as ``cuda.bindings.runtime`` gives it.

    Its calls return a tuple, status first; handles are objects that convert to int, and ints are
    taken in their place (tried with 12.9 and 13.5).

    Args:
        device: index of the GPU.

    Raises:
        BackendUnavailable: the package, the driver or the GPU is missing.
    """

    graphs = True

    def __init__(self, device: int = 0) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as exc:
            raise BackendUnavailable(f"cuda-bindings: {exc}; pip install cuda-bindings") from exc
        self._cuda: Any = runtime
        self._device = device
        self._call("cudaSetDevice", device)

    @property
    def name(self) -> str:
        """Package and version."""
        return f"cuda-bindings {version('cuda-bindings')}"

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            raise failure(name, int(status), status.name)
        return values[0] if len(values) == 1 else values

    def facts(self) -> DeviceFacts:
        """The device's properties."""
        named = self._call("cudaGetDeviceProperties", self._device).name
        major, minor = self._attribute(api.MAJOR), self._attribute(api.MINOR)
        return DeviceFacts(
            name=named.split(b"\0")[0].decode() if isinstance(named, bytes) else str(named),
            sm=10 * major + minor,
            integrated=bool(self._attribute(api.INTEGRATED)),
            runtime=version_text(int(self._call("cudaRuntimeGetVersion"))),
        )

    def _attribute(self, number: int) -> int:
        wanted = self._cuda.cudaDeviceAttr(number)
        return int(self._call("cudaDeviceGetAttribute", wanted, self._device))

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def malloc(self, nbytes: int) -> int:
        """Device memory."""
        return int(self._call("cudaMalloc", nbytes))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def host_alloc(self, nbytes: int) -> int:
        """Page-locked host memory."""
        return int(self._call("cudaHostAlloc", nbytes, api.PORTABLE_MAPPED))

    def host_free(self, address: int) -> None:
        """Give page-locked memory back."""
        self._call("cudaFreeHost", address)

    def host_pointer(self, address: int) -> int:
        """Where the device sees page-locked memory."""
        return int(self._call("cudaHostGetDevicePointer", address, 0))

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        """Enqueue a copy."""
        direction = self._cuda.cudaMemcpyKind(kind)
        self._call("cudaMemcpyAsync", target, source, nbytes, direction, stream)

    def copy_2d(
        self, target: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: int
    ) -> None:
        """Enqueue a copy of pieces."""
        direction = self._cuda.cudaMemcpyKind(api.DEVICE_TO_DEVICE)
        self._call("cudaMemcpy2DAsync", *target, *source, width, rows, direction, stream)

    def fill(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        """Enqueue a fill."""
        self._call("cudaMemsetAsync", target, byte, nbytes, stream)

    def stream_create(self) -> int:
        """A non-blocking stream."""
        return int(self._call("cudaStreamCreateWithFlags", api.NON_BLOCKING))

    def stream_destroy(self, stream: int) -> None:
        """Release a stream."""
        self._call("cudaStreamDestroy", stream)

    def stream_synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        self._call("cudaStreamSynchronize", stream)

    def stream_wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def event_create(self) -> int:
        """An event with its time."""
        return int(self._call("cudaEventCreateWithFlags", 0))

    def event_destroy(self, event: int) -> None:
        """Release an event."""
        self._call("cudaEventDestroy", event)

    def event_record(self, event: int, stream: int) -> None:
        """Enqueue an event."""
        self._call("cudaEventRecord", event, stream)

    def event_elapsed_ms(self, first: int, second: int) -> float:
        """Device time between two events."""
        return float(self._call("cudaEventElapsedTime", first, second))

    def capture_begin(self, stream: int) -> None:
        """Note the stream's work from here on."""
        mode = self._cuda.cudaStreamCaptureMode(api.THREAD_LOCAL)
        self._call("cudaStreamBeginCapture", stream, mode)

    def capture_end(self, stream: int) -> int:
        """The noted work, ready to launch."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def graph_launch(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def graph_destroy(self, graph: int) -> None:
        """Release a graph."""
        self._call("cudaGraphExecDestroy", graph)
