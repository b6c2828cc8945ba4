"""A decoder's engine with its cache on the device, one CUDA graph a decode step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.backends.cuda.exchange import Exchange
from edgevlm.runtime.backends.cuda.memory import DeviceArray
from edgevlm.tensors import Array

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from edgevlm.runtime.backends.trt_graph import Shape, TrtGraph

KEPT_FROM = 1 << 16  # bytes: a fixed input of this size stays on the device, without a host side
GRAPHS_AT_MOST = 2  # the decode step, and one more: each has a context and buffers of its own


@dataclass(slots=True)
class _Step:
    """A call of certain shapes that comes again: its context, buffers and graph."""

    key: object
    context: Any
    exchanges: dict[str, Exchange]
    wanted: frozenset[str]
    graph: int = 0
    moves: int = -1


class TrtState:
    """``StatefulGraph`` over an engine.

    An output that the engine aliases to its input shares the address; another state's output has
    its own, and is copied back after the call, because kernels may read the input late.

    Calls of the same shapes twice in a row get a context and buffers of their own; the second is
    captured with its uploads and downloads, and later ones launch that graph.

    Args:
        owner: the graph.
        state: output -> input.

    Raises:
        ContractError: a state without a fixed size, or an alias that is no state.
    """

    def __init__(self, owner: TrtGraph, state: Mapping[str, str]) -> None:
        self._owner = owner
        self._arrays: dict[str, DeviceArray] = {}  # inputs that stay on the device
        self._results: dict[str, DeviceArray] = {}  # outputs copied into their input afterwards
        self._pairs = dict(state)
        device, tensors = owner.device, owner.tensors
        for name, tensor in tensors.items():
            if tensor.alias is not None and state.get(name) != tensor.alias:
                raise ContractError(f"{name!r} is {tensor.alias!r} in place: bind both")
        for output, source in state.items():
            spec = tensors[source].spec
            if not spec.fixed:
                raise ContractError(f"state {source!r} has free dimensions: {spec.shape}")
            shape = tuple(int(d) for d in spec.shape)
            self._arrays[source] = device.array(shape, spec.dtype)
            if tensors[output].alias is None:
                self._results[output] = device.array(shape, spec.dtype)
        self._shapes: dict[str, Shape] = {}  # of the inputs that come with every call
        self._loose = _Step(("state", id(self)), None, {}, frozenset())
        self._steps: dict[object, _Step] = {}
        self._now = self._loose
        self._keys: set[object] = set()  # of the contexts that were made
        self._last: object = None
        self._read: set[str] = set()
        self._fresh: set[str] = set()  # outputs whose host side is the last run's

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, Shape]) -> None:
        """Run once; see ``StatefulGraph``."""
        for name, value in feeds.items():
            if not self._keep(name, value):
                self._shapes[name] = value.shape
        if lost := [
            s.name
            for s in self._owner.inputs
            if s.name not in self._arrays and s.name not in self._shapes
        ]:
            raise ContractError(f"the engine's inputs {lost} were never given")
        signature = (tuple(self._shapes.items()), tuple(shapes.items()))
        step, before = self._choose(signature), self._now
        for name, shape in self._shapes.items():
            target = self._exchange(step, name, shape)
            if name in feeds:
                target.host[...] = feeds[name]
            elif step is not before:  # what is not fed again keeps its value
                target.host[...] = before.exchanges[name].host
        self._now = step
        if step is not self._loose and step.moves == self._owner.scratch.moves:
            self._again(step)
        else:
            self._forget_graph(step)
            step.wanted = frozenset(self._read)
            self._prepare(step, shapes)
            self._enqueue(step)
            step.moves = self._owner.scratch.moves
        self._owner.device.synchronize()
        self._fresh = set(step.wanted)

    def _again(self, step: _Step) -> None:
        """A call like the last one of its kind: by its graph, which the first one makes."""
        api, stream = self._owner.device.api, self._owner.device.stream
        if not step.graph and self._owner.captures:
            api.capture_begin(stream)
            try:
                self._enqueue(step)
                step.graph = api.capture_end(stream)
            except BackendError as exc:  # some engines cannot be captured
                _log.info("decode steps run without a CUDA graph: %s", exc)
                self._owner.captures = False
                with contextlib.suppress(BackendError):
                    api.graph_destroy(api.capture_end(stream))
        if step.graph:
            api.graph_launch(step.graph, stream)
        else:
            self._enqueue(step)

    def _keep(self, name: str, value: Array) -> bool:
        """Put a value into an array that stays on the device; False if it goes with the call."""
        array = self._arrays.get(name)
        if array is None:
            spec = self._owner.tensors[name].spec
            if not spec.fixed or value.nbytes < KEPT_FROM:
                return False
            array = self._arrays[name] = self._owner.device.array(value.shape, spec.dtype)
        if value.any():
            array.put(np.ascontiguousarray(value, array.dtype))
        else:
            array.clear()
        return True

    def _choose(self, signature: object) -> _Step:
        repeated, self._last = signature == self._last, signature
        if signature not in self._steps:
            if not (repeated and self._owner.captures) or len(self._steps) >= GRAPHS_AT_MOST:
                return self._loose
            step = _Step(("step", id(self), len(self._steps)), None, {}, frozenset())
            self._steps[signature] = step
        return self._steps[signature]

    def _exchange(self, step: _Step, name: str, shape: Shape) -> Exchange:
        held = step.exchanges.get(name)
        if held is None or held.shape != shape:
            if held is not None:
                held.close()
            dtype = self._owner.tensors[name].spec.dtype
            held = step.exchanges[name] = self._owner.device.exchange(shape, dtype)
        return held

    def _prepare(self, step: _Step, shapes: Mapping[str, Shape]) -> None:
        """Set every shape and address of the step's context."""
        owner = self._owner
        profile = owner.profile(self._shapes)
        key = step.key if step is not self._loose else (step.key, profile)
        context = step.context = owner.context(key, profile)
        self._keys.add(key)
        for name, shape in self._shapes.items():
            owner.set_input(context, name, shape, self._exchange(step, name, shape))
        for name, array in self._arrays.items():
            context.set_tensor_address(name, array.address)
        for spec in owner.outputs:
            source = self._pairs.get(spec.name)
            if source is not None:
                target = self._results.get(spec.name, self._arrays[source])
                context.set_tensor_address(spec.name, target.address)
                continue
            size = owner.output_shape(context, spec.name, shapes.get(spec.name))
            if size is None:  # nobody reads it; an engine that needs an address says so
                continue
            owner.set_output(context, spec.name, self._exchange(step, spec.name, size))

    def _enqueue(self, step: _Step) -> None:
        """Uploads, the engine, copies of the state, downloads: what a graph captures."""
        for name in self._shapes:
            step.exchanges[name].upload()
        self._owner.enqueue(step.context)
        for output, result in self._results.items():
            self._arrays[self._pairs[output]].copy_from(result.address)
        for name in step.wanted:
            step.exchanges[name].download()

    def output(self, name: str) -> Array:
        """The last value of an output; from the second time on it comes with the call."""
        source = self._pairs.get(name)
        if source is not None:
            return self._arrays[source].get()
        exchange = self._now.exchanges[name]
        if name not in self._fresh:
            exchange.download()
            self._owner.device.synchronize()
            self._fresh.add(name)
            self._read.add(name)
        return exchange.host

    def store(self, rows: Mapping[str, str], at: int) -> None:
        """Copy outputs into inputs that stay on the device; see ``StatefulGraph``."""
        for output, source in rows.items():
            new = self._now.exchanges[output]
            if source not in self._arrays:
                self._adopt(source)
            self._arrays[source].place_rows(new.address, new.shape[-2], at)

    def memory(self, name: str) -> Array | None:  # noqa: ARG002
        """It is the device's."""
        return None

    def _adopt(self, name: str) -> None:
        """From now on an input that came with every call stays on the device."""
        given = self._now.exchanges[name].host
        array = self._arrays[name] = self._owner.device.array(given.shape, given.dtype.name)
        array.put(given)
        del self._shapes[name]  # no earlier call is like a later one: every graph is made anew

    def _forget_graph(self, step: _Step) -> None:
        if step.graph:
            self._owner.device.api.graph_destroy(step.graph)
            step.graph = 0

    def close(self) -> None:
        """Release the state, its graphs and contexts; may be called twice."""
        for step in (self._loose, *self._steps.values()):
            self._forget_graph(step)
            for exchange in step.exchanges.values():
                exchange.close()
            step.exchanges.clear()
        for key in self._keys:
            self._owner.drop_context(key)
        self._keys.clear()
        self._steps.clear()
        for array in (*self._arrays.values(), *self._results.values()):
            array.memory.close()
        self._arrays.clear()
        self._results.clear()
