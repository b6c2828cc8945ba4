"""The part of the CUDA runtime that edgevlm uses, and what its error codes mean to a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgevlm.errors import BackendError, BackendMemoryError, BackendUnavailable

NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the legacy default stream
PORTABLE_MAPPED = 1 | 2  # cudaHostAllocPortable | cudaHostAllocMapped
THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal: other threads may call CUDA meanwhile
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3  # cudaMemcpyKind
MAJOR, MINOR, INTEGRATED, CAN_MAP = 75, 76, 18, 19  # cudaDeviceAttr

OUT_OF_MEMORY = 2
# cudaError_t -> what to do. Those of NOT_HERE mean that no GPU can be used from this process.
_REMEDIES = {
    OUT_OF_MEMORY: "close other users of the GPU, or export with a smaller --max-context",
    35: "the NVIDIA driver is missing or older than this CUDA: update it, or install the CUDA "
    "bindings of its own version (JetPack 6: 12.6, JetPack 7: 13)",
    46: "another process holds the GPU exclusively",
    100: "no GPU is visible: look at nvidia-smi, CUDA_VISIBLE_DEVICES and the container runtime",
    101: "there is no GPU of this number",
    209: "this library has no code for this GPU; on Jetson take the build of JetPack",
    803: "driver and CUDA library disagree: reboot after the driver's update",
    804: "the driver is not one that may run a newer CUDA: update it",
    999: "the driver does not answer: look at dmesg, or reboot",
}
_NOT_HERE = frozenset({3, 35, 46, 100, 101, 803, 804, 999})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a GPU says of itself.

    Args:
        name: as the driver reports it, such as ``Orin``.
        sm: compute capability as digits, ``87`` for 8.7.
        integrated: it shares its memory with the CPU.
        runtime: version of the CUDA runtime library, such as ``12.6``.
    """

    name: str
    sm: int
    integrated: bool
    runtime: str


class CudaApi(Protocol):
    """Some twenty calls of the CUDA runtime. Addresses and handles are ints, sizes bytes.

    Every call raises BackendError when CUDA refuses it. Work given to a stream runs in order;
    what it reads and writes must stay as it is until the stream was waited for.
    """

    @property
    def name(self) -> str:
        """The library behind it, with its version."""
        ...

    @property
    def graphs(self) -> bool:
        """Whether work can be captured into a graph."""
        ...

    def facts(self) -> DeviceFacts:
        """The device's properties."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        ...

    def malloc(self, nbytes: int) -> int:
        """Device memory, aligned to 256 bytes or more."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back; waits for work that uses it."""
        ...

    def host_alloc(self, nbytes: int) -> int:
        """Page-locked host memory that the device can map."""
        ...

    def host_free(self, address: int) -> None:
        """Give page-locked memory back."""
        ...

    def host_pointer(self, address: int) -> int:
        """Where the device sees page-locked memory."""
        ...

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        """Enqueue a copy; ``kind`` is one of ``HOST_TO_DEVICE`` and its neighbours."""
        ...

    def copy_2d(
        self, target: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: int
    ) -> None:
        """Enqueue a copy on the device of ``rows`` pieces of ``width`` bytes.

        ``target`` and ``source`` are the first piece's address, and bytes from piece to piece.
        """
        ...

    def fill(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        """Enqueue setting device memory to one byte value."""
        ...

    def stream_create(self) -> int:
        """A stream that does not wait for the default one."""
        ...

    def stream_destroy(self, stream: int) -> None:
        """Release a stream; its work still ends."""
        ...

    def stream_synchronize(self, stream: int) -> None:
        """Wait until everything given to the stream is done."""
        ...

    def stream_wait(self, stream: int, event: int) -> None:
        """Let what the stream gets next wait for an event."""
        ...

    def event_create(self) -> int:
        """An event that notes its time."""
        ...

    def event_destroy(self, event: int) -> None:
        """Release an event."""
        ...

    def event_record(self, event: int, stream: int) -> None:
        """Enqueue the event."""
        ...

    def event_elapsed_ms(self, first: int, second: int) -> float:
        """Milliseconds of device time between two events that have passed."""
        ...

    def capture_begin(self, stream: int) -> None:
        """From here on the stream's work is noted and not run."""
        ...

    def capture_end(self, stream: int) -> int:
        """The noted work as a graph that can be launched."""
        ...

    def graph_launch(self, graph: int, stream: int) -> None:
        """Enqueue the whole graph."""
        ...

    def graph_destroy(self, graph: int) -> None:
        """Release a graph."""
        ...


def failure(call: str, code: int, name: str) -> BackendError:
    """The error for a CUDA call that returned ``code``: its name, and the remedy if there is one.

    It is a ``BackendUnavailable`` where the code means that there is no usable GPU, and a
    ``BackendMemoryError`` where it means that its memory is full.
    """
    kind = BackendMemoryError if code == OUT_OF_MEMORY else BackendError
    kind = BackendUnavailable if code in _NOT_HERE else kind
    remedy = f": {_REMEDIES[code]}" if code in _REMEDIES else ""
    return kind(f"CUDA {call} failed with {name} ({code}){remedy}")


def version_text(number: int) -> str:
    """``12060`` as ``12.6``."""
    return f"{number // 1000}.{number % 1000 // 10}"
