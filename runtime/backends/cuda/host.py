"""A device made of host memory: the whole GPU logic runs on it, on a machine without a GPU.

It ships with the package, as ``scripted`` does. Like a real stream it does its work late: what was
enqueued happens when the stream is waited for, so that code which reads a result too early, or
writes an input too early, is wrong here as well. An address outside of what was allocated is an
error at once.
"""

from __future__ import annotations

import ctypes
import itertools
from collections import Counter
from collections.abc import Callable

from edgevlm.errors import BackendError
from edgevlm.runtime.backends.cuda.api import OUT_OF_MEMORY, DeviceFacts, failure

ALIGNMENT = 256


class HostApi:
    """``CudaApi`` over host memory.

    Args:
        integrated: whether it says that it shares memory with the CPU.
        graphs: whether it captures.
        sm: the compute capability that it claims.
        total: bytes that can be allocated at once.
    """

    def __init__(
        self,
        *,
        integrated: bool = False,
        graphs: bool = True,
        sm: int = 87,
        total: int = 1 << 32,
    ) -> None:
        self.name = "host memory"
        self.graphs = graphs
        self.counts: Counter[str] = Counter()
        self._facts = DeviceFacts(name="host memory", sm=sm, integrated=integrated, runtime="12.6")
        self._total = total
        self._blocks: dict[int, tuple[int, ctypes.Array[ctypes.c_char]]] = {}  # size, owner
        self._handles = itertools.count(1)
        self._streams: dict[int, list[Callable[[], None]]] = {}
        self._captured: dict[int, list[Callable[[], None]]] = {}  # of a capturing stream
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._events: set[int] = set()
        self._ticks = itertools.count()
        self._passed: dict[int, int] = {}

    def facts(self) -> DeviceFacts:
        """What it claims to be."""
        return self._facts

    def memory_info(self) -> tuple[int, int]:
        """Bytes that may still be allocated, and all."""
        return self._total - sum(size for size, _ in self._blocks.values()), self._total

    def malloc(self, nbytes: int) -> int:
        """Memory filled with 0xCD, so that nothing passes for zeroed by luck."""
        if nbytes > self.memory_info()[0]:
            raise failure("cudaMalloc", OUT_OF_MEMORY, "cudaErrorMemoryAllocation")
        owner = ctypes.create_string_buffer(nbytes + ALIGNMENT)
        address = -(-ctypes.addressof(owner) // ALIGNMENT) * ALIGNMENT
        ctypes.memset(address, 0xCD, nbytes)
        self._blocks[address] = (nbytes, owner)
        self.counts["malloc"] += 1
        return address

    def free(self, address: int) -> None:
        """Forget a block."""
        if address not in self._blocks:
            raise failure("cudaFree", 1, "cudaErrorInvalidValue")
        for stream in self._streams:
            self.stream_synchronize(stream)
        del self._blocks[address]

    def host_alloc(self, nbytes: int) -> int:
        """As ``malloc``."""
        return self.malloc(nbytes)

    def host_free(self, address: int) -> None:
        """As ``free``."""
        self.free(address)

    def host_pointer(self, address: int) -> int:
        """The same address."""
        return address

    def require(self, address: int, nbytes: int) -> None:
        """Raise BackendError unless the whole range was allocated."""
        for start, (size, _) in self._blocks.items():
            if start <= address and address + nbytes <= start + size:
                return
        raise BackendError(f"{nbytes} bytes at {address:#x} were not allocated")

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        """Enqueue a copy between ranges that were allocated (page-locked ones too)."""

        def work() -> None:
            self.require(target, nbytes)
            self.require(source, nbytes)
            ctypes.memmove(target, source, nbytes)

        self.counts[f"copy {kind}"] += 1
        self.enqueue(stream, work)

    def copy_2d(
        self, target: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: int
    ) -> None:
        """Enqueue a copy of pieces."""

        def work() -> None:
            for n in range(rows):
                to, source_of = target[0] + n * target[1], source[0] + n * source[1]
                self.require(to, width)
                self.require(source_of, width)
                ctypes.memmove(to, source_of, width)

        self.counts["copy 2d"] += 1
        self.enqueue(stream, work)

    def fill(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        """Enqueue a fill."""

        def work() -> None:
            self.require(target, nbytes)
            ctypes.memset(target, byte, nbytes)

        self.enqueue(stream, work)

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Give the stream something to do: later, or at each launch of what it captures."""
        if stream not in self._streams:
            raise failure("stream", 400, "cudaErrorInvalidResourceHandle")
        self._captured.get(stream, self._streams[stream]).append(work)

    @property
    def capturing(self) -> frozenset[int]:
        """The streams whose work is noted and not done."""
        return frozenset(self._captured)

    def stream_create(self) -> int:
        """An empty stream."""
        stream = next(self._handles)
        self._streams[stream] = []
        return stream

    def stream_destroy(self, stream: int) -> None:
        """End the stream's work and forget it."""
        self.stream_synchronize(stream)
        del self._streams[stream]

    def stream_synchronize(self, stream: int) -> None:
        """Do what was enqueued, in order."""
        if stream in self._captured:
            raise failure("cudaStreamSynchronize", 900, "cudaErrorStreamCaptureUnsupported")
        waiting = self._streams[stream]
        while waiting:
            waiting.pop(0)()

    def stream_wait(self, stream: int, event: int) -> None:
        """Enqueue a wait: the event has passed, or the work before it is done now."""

        def work() -> None:
            for other, waiting in self._streams.items():
                while other != stream and event not in self._passed and waiting:
                    waiting.pop(0)()

        self.enqueue(stream, work)

    def event_create(self) -> int:
        """An event that has not passed."""
        event = next(self._handles)
        self._events.add(event)
        return event

    def event_destroy(self, event: int) -> None:
        """Forget it."""
        self._events.remove(event)
        self._passed.pop(event, None)

    def event_record(self, event: int, stream: int) -> None:
        """Enqueue the passing of the event."""
        self._passed.pop(event, None)
        self.enqueue(stream, lambda: self._passed.__setitem__(event, next(self._ticks)))

    def event_elapsed_ms(self, first: int, second: int) -> float:
        """Events between the two, as milliseconds."""
        if not {first, second} <= self._passed.keys():
            raise failure("cudaEventElapsedTime", 600, "cudaErrorNotReady")
        return float(self._passed[second] - self._passed[first])

    def capture_begin(self, stream: int) -> None:
        """Note what the stream gets from here on."""
        if not self.graphs:
            raise BackendError("this device captures no graphs")
        self._captured[stream] = []
        self.counts["capture"] += 1

    def capture_end(self, stream: int) -> int:
        """What was noted."""
        graph = next(self._handles)
        self._graphs[graph] = self._captured.pop(stream)
        return graph

    def graph_launch(self, graph: int, stream: int) -> None:
        """Enqueue everything that was noted."""
        self.counts["launch"] += 1
        for work in self._graphs[graph]:
            self.enqueue(stream, work)

    def graph_destroy(self, graph: int) -> None:
        """Forget it."""
        del self._graphs[graph]
