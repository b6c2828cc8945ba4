"""CUDA through ``libcudart.so`` and ctypes: nothing to install where CUDA itself is."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.cuda import api
from edgevlm.runtime.backends.cuda.api import DeviceFacts, failure, version_text

LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
_PROPERTIES_BYTES = 8192  # cudaDeviceProp is about 1 KB and grows; the name comes first
_NAME_BYTES = 256

_POINTER = ctypes.POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaSetDevice": (c_int,),
    "cudaGetDeviceProperties": (c_void_p, c_int),
    "cudaDeviceGetAttribute": (ctypes.POINTER(c_int), c_int, c_int),
    "cudaRuntimeGetVersion": (ctypes.POINTER(c_int),),
    "cudaMemGetInfo": (ctypes.POINTER(c_size_t), ctypes.POINTER(c_size_t)),
    "cudaMalloc": (_POINTER, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (_POINTER, c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaHostGetDevicePointer": (_POINTER, c_void_p, c_uint),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaMemcpy2DAsync": (
        c_void_p,
        c_size_t,
        c_void_p,
        c_size_t,
        c_size_t,
        c_size_t,
        c_int,
        c_void_p,
    ),
    "cudaMemsetAsync": (c_void_p, c_int, c_size_t, c_void_p),
    "cudaStreamCreateWithFlags": (_POINTER, c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cudaEventCreateWithFlags": (_POINTER, c_uint),
    "cudaEventDestroy": (c_void_p,),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventElapsedTime": (ctypes.POINTER(c_float), c_void_p, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, _POINTER),
    "cudaGraphInstantiateWithFlags": (_POINTER, c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphDestroy": (c_void_p,),
}


class Cudart:
    """The CUDA runtime library itself.

    Args:
        device: index of the GPU.
        library: path or name; None looks for ``LIBRARIES`` in turn.

    Raises:
        BackendUnavailable: no such library, one without these functions, no driver or no GPU.
    """

    graphs = True

    def __init__(self, device: int = 0, library: str | None = None) -> None:
        self._library, self._file = _open(LIBRARIES if library is None else (library,))
        self._device = device
        self._library.cudaGetErrorName.restype = c_char_p
        self._library.cudaGetErrorName.argtypes = (c_int,)
        for name, arguments in _SIGNATURES.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as exc:
                raise BackendUnavailable(f"{self._file} has no {name}: CUDA 12 or newer") from exc
            function.argtypes, function.restype = arguments, c_int
        self._call("cudaSetDevice", device)

    @property
    def name(self) -> str:
        """The library's file."""
        return self._file

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            named = self._library.cudaGetErrorName(code) or b"an unknown error"
            raise failure(name, code, named.decode())

    def _made(self, name: str, *arguments: Any) -> int:
        """A call whose first argument is where its pointer or handle goes."""
        value = c_void_p()
        self._call(name, byref(value), *arguments)
        return value.value or 0

    def facts(self) -> DeviceFacts:
        """The device's properties."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, self._device)
        number = c_int()
        self._call("cudaRuntimeGetVersion", byref(number))
        named = properties.raw[:_NAME_BYTES].split(b"\0")[0]
        return DeviceFacts(
            name=named.decode("utf-8", "replace"),
            sm=10 * self._attribute(api.MAJOR) + self._attribute(api.MINOR),
            integrated=bool(self._attribute(api.INTEGRATED)),
            runtime=version_text(number.value),
        )

    def _attribute(self, number: int) -> int:
        value = c_int()
        self._call("cudaDeviceGetAttribute", byref(value), number, self._device)
        return value.value

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def malloc(self, nbytes: int) -> int:
        """Device memory."""
        return self._made("cudaMalloc", nbytes)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def host_alloc(self, nbytes: int) -> int:
        """Page-locked host memory."""
        return self._made("cudaHostAlloc", nbytes, api.PORTABLE_MAPPED)

    def host_free(self, address: int) -> None:
        """Give page-locked memory back."""
        self._call("cudaFreeHost", address)

    def host_pointer(self, address: int) -> int:
        """Where the device sees page-locked memory."""
        return self._made("cudaHostGetDevicePointer", address, 0)

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        """Enqueue a copy."""
        self._call("cudaMemcpyAsync", target, source, nbytes, kind, stream)

    def copy_2d(
        self, target: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: int
    ) -> None:
        """Enqueue a copy of pieces."""
        kind = api.DEVICE_TO_DEVICE
        self._call("cudaMemcpy2DAsync", *target, *source, width, rows, kind, stream)

    def fill(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        """Enqueue a fill."""
        self._call("cudaMemsetAsync", target, byte, nbytes, stream)

    def stream_create(self) -> int:
        """A non-blocking stream."""
        return self._made("cudaStreamCreateWithFlags", api.NON_BLOCKING)

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
        return self._made("cudaEventCreateWithFlags", 0)

    def event_destroy(self, event: int) -> None:
        """Release an event."""
        self._call("cudaEventDestroy", event)

    def event_record(self, event: int, stream: int) -> None:
        """Enqueue an event."""
        self._call("cudaEventRecord", event, stream)

    def event_elapsed_ms(self, first: int, second: int) -> float:
        """Device time between two events."""
        value = c_float()
        self._call("cudaEventElapsedTime", byref(value), first, second)
        return value.value

    def capture_begin(self, stream: int) -> None:
        """Note the stream's work from here on."""
        self._call("cudaStreamBeginCapture", stream, api.THREAD_LOCAL)

    def capture_end(self, stream: int) -> int:
        """The noted work, ready to launch."""
        graph = c_void_p()
        self._call("cudaStreamEndCapture", stream, byref(graph))
        try:
            return self._made("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def graph_launch(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def graph_destroy(self, graph: int) -> None:
        """Release a graph."""
        self._call("cudaGraphExecDestroy", graph)


def _open(names: tuple[str, ...]) -> tuple[Any, str]:
    reason = ""
    for name in names:
        try:
            return ctypes.CDLL(name), name
        except OSError as exc:
            reason = str(exc)
    raise BackendUnavailable(f"libcudart: {reason}; install CUDA, or pip install cuda-bindings")
