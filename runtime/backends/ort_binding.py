"""Graphs of ONNX Runtime whose state stays where the provider works, through IOBinding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import engine_error
from edgevlm.runtime.backends.ort_slots import DeviceSlot, HostSlot, Place, Shape, Slot
from edgevlm.tensors import Array, TensorSpec

Signature = tuple[tuple[str, Shape | bytes], ...]
# GroupQueryAttention reads this from host memory, and a CUDA graph would freeze it. Beside
# ``seqlens_k``, which lies on the device, it is an upper bound: a captured step gets the capacity.
# Source: onnxruntime-genai, src/models/position_inputs.cpp, whose mask then has the full length.
UPPER_BOUND = "total_sequence_length"
KEYS_AND_VALUES = "past_key_values."
NO_GRAPH = "-1"  # gpu_graph_id of a run that is neither captured nor replayed


class OrtStateful:
    """In-place state: every buffer is bound once per input shape.

    A call whose shapes equal the last one's (a decode step) only copies its small inputs and
    runs; nothing is bound or allocated. With CUDA graphs such a call gets buffers of its own,
    which keep their addresses: ONNX Runtime captures the first and replays the others. To capture
    it runs a call more than once, so every state must be one that a second run leaves as the first
    did: keys and values are, others only where they lie apart from their output.

    Args:
        session: an ``InferenceSession``.
        inputs: of the graph.
        outputs: of the graph.
        state: output -> input whose buffer it shares.
        place: where buffers go.
        on_host: inputs that the provider reads from host memory.
        graph_ids: for CUDA graphs; of all bindings of a session together.

    Raises:
        ContractError: a state without a fixed size.
    """

    def __init__(
        self,
        session: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        state: Mapping[str, str],
        place: Place,
        on_host: frozenset[str] = frozenset(),
        graph_ids: Iterator[int] | None = None,
    ) -> None:
        self._session = session
        self._place = place
        self._on_host = on_host
        self._graph_ids = graph_ids or itertools.count(1)
        self._in = {s.name: s for s in inputs}
        self._out = {s.name: s for s in outputs}
        self._state: dict[str, Slot] = {}
        self._pairs = dict(state)
        for output, source in state.items():
            spec = self._in[source]
            shape = tuple(d for d in spec.shape if isinstance(d, int))
            if len(shape) != len(spec.shape):
                raise ContractError(f"state {source!r} has free dimensions: {spec.shape}")
            self._state[source] = self._state[output] = place.slot(shape, spec.dtype, host=False)
            if place.apart and not source.startswith(KEYS_AND_VALUES):
                self._state[output] = place.slot(shape, spec.dtype, host=False)
        self._apart = [(o, s) for o, s in state.items() if self._state[o] is not self._state[s]]
        self._capacity = max(
            (s.shape[-2] for s in self._state.values() if len(s.shape) > 1), default=0
        )
        self._captures = place.captures and (
            place.apart or all(s.startswith(KEYS_AND_VALUES) for s in state.values())
        )
        self._loose = self._bound(NO_GRAPH)
        self._steps: dict[Signature, _Bound] = {}
        self._bound_now = self._loose
        self._last: Signature | None = None

    def _bound(self, graph: str) -> _Bound:
        binding = self._session.io_binding()
        for output, source in self._pairs.items():
            binding.bind_ortvalue_input(source, self._state[source].value)
            binding.bind_ortvalue_output(output, self._state[output].value)
        options = None
        if self._place.captures:
            options = self._place.ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", graph)
        return _Bound(binding, options, {})

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, Shape]) -> None:
        """Run once; see ``StatefulGraph``."""
        bound = self._bound_now = self._for(feeds, shapes)
        for name, value in feeds.items():
            if name in self._state:
                self._state[name].write(value)
                continue
            host = name in self._on_host
            slot = self._slot(bound, name, value.shape, source=True, host=host)
            bounded = host and name == UPPER_BOUND and bound is not self._loose
            slot.write(np.full_like(value, self._capacity) if bounded else value)
            if host:  # the provider may have taken its copy when it was bound
                bound.binding.bind_ortvalue_input(name, slot.value)
        for name, shape in shapes.items():
            self._slot(bound, name, shape, source=False, host=False)
        try:
            self._session.run_with_iobinding(bound.binding, bound.options)
        except Exception as exc:
            raise engine_error("ONNX Runtime failed", exc) from exc
        for output, source in self._apart:
            self._state[source].write(self._state[output].read())

    def _for(self, feeds: Mapping[str, Array], shapes: Mapping[str, Shape]) -> _Bound:
        if not self._captures:
            return self._loose
        frozen = (  # a graph keeps what it read from host memory
            (n, v.shape if n not in self._on_host or n == UPPER_BOUND else v.tobytes())
            for n, v in feeds.items()
        )
        signature = (*frozen, *shapes.items())
        repeated, self._last = signature == self._last, signature
        if signature not in self._steps:
            if not repeated:
                return self._loose
            step = self._bound(str(next(self._graph_ids)))
            # What was left out of the feeds keeps its value: take the loose buffers along.
            step.slots.update(
                {n: s for n, s in self._loose.slots.items() if n in self._in and n not in feeds}
            )
            for name, slot in step.slots.items():
                step.binding.bind_ortvalue_input(name, slot.value)
            self._steps[signature] = step
        return self._steps[signature]

    def _slot(self, bound: _Bound, name: str, shape: Shape, *, source: bool, host: bool) -> Slot:
        slot = bound.slots.get(name)
        if slot is None or slot.shape != shape:
            dtype = (self._in if source else self._out)[name].dtype
            slot = bound.slots[name] = self._place.slot(shape, dtype, host=host)
            if source:
                bound.binding.bind_ortvalue_input(name, slot.value)
            else:
                bound.binding.bind_ortvalue_output(name, slot.value)
        return slot

    def output(self, name: str) -> Array:
        """The last value of an output."""
        return (self._state.get(name) or self._bound_now.slots[name]).read()

    def memory(self, name: str) -> Array | None:
        """A state's own memory, where it is the host's; see ``StatefulGraph``."""
        slot = self._state[name]
        return slot.read() if isinstance(slot, HostSlot) else None

    def store(self, rows: Mapping[str, str], at: int) -> None:
        """Copy outputs into inputs; see ``StatefulGraph``."""
        for output, source in rows.items():
            new = self._state.get(output) or self._bound_now.slots[output]
            for slot in self._held(source):
                self._place_rows(new, slot, at)
        if self._place.cuda is not None:
            self._place.cuda.synchronize()

    def _held(self, source: str) -> list[Slot]:
        """Every buffer of an input: one of a state, else one for each kind of call."""
        if source in self._state:
            return [self._state[source]]
        bounds = (self._loose, *self._steps.values())
        held = [bound.slots[source] for bound in bounds if source in bound.slots]
        return list({id(slot): slot for slot in held}.values())

    def _place_rows(self, new: Slot, slot: Slot, at: int) -> None:
        count, device = new.shape[-2], self._place.cuda
        if device is None or not isinstance(new, DeviceSlot) or not isinstance(slot, DeviceSlot):
            whole = slot.read()
            whole[..., at : at + count, :] = new.read()
            if isinstance(slot, DeviceSlot):
                slot.write(whole)
            return
        row, more = slot.nbytes // math.prod(slot.shape[:-1]), slot.shape[-2]
        device.api.copy_2d(
            (slot.value.data_ptr() + at * row, more * row),
            (new.value.data_ptr(), count * row),
            count * row,
            math.prod(slot.shape[:-2]),
            device.stream,
        )

    def close(self) -> None:
        """Release buffers and session; may be called twice."""
        self._session = None
        self._state.clear()
        self._steps.clear()
        self._loose = self._bound_now = _Bound(None, None, {})


@dataclass(frozen=True, slots=True)
class _Bound:
    """A binding, what its runs are called with, and the buffers that it owns."""

    binding: Any
    options: Any
    slots: dict[str, Slot]
