"""An engine of TensorRT as a graph: contexts, fixed addresses, one scratch for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.backends.base import StatefulGraph
from edgevlm.runtime.backends.cuda.exchange import Exchange
from edgevlm.runtime.backends.cuda.memory import Device, Memory
from edgevlm.runtime.backends.trt_api import (
    Tensor,
    give_scratch,
    profile_for,
    scratch_bytes,
    tensors_of,
)
from edgevlm.runtime.backends.trt_state import TrtState
from edgevlm.tensors import Array

Shape = tuple[int, ...]
MakeContext = Callable[[Any], Any]  # engine -> a context that gets its memory from us


class Scratch:
    """One piece of device memory in which every context works: they never run together.

    Growing it moves it, and what was captured before is void: ``moves`` counts that.

    Args:
        device: whose memory.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Memory | None = None
        self._contexts: list[Any] = []
        self.moves = 0

    def serve(self, context: Any, nbytes: int) -> None:
        """Give a context its memory, now and whenever it moves."""
        self._contexts.append(context)
        if self._memory is None or self._memory.nbytes < nbytes:
            self._device.synchronize()
            if self._memory is not None:
                self._memory.close()
            self._memory = self._device.allocate(max(nbytes, 256))
            self.moves += 1
            for each in self._contexts:
                give_scratch(each, self._memory.address, self._memory.nbytes)
        else:
            give_scratch(context, self._memory.address, self._memory.nbytes)

    def leave(self, context: Any) -> None:
        """Forget a context."""
        self._contexts.remove(context)
        if not self._contexts and self._memory is not None:
            self._memory.close()
            self._memory = None


class TrtGraph:
    """One engine.

    Args:
        trt: TensorRT's module.
        engine: deserialised.
        alive: what must stay alive with it.
        device: where it runs.
        scratch: shared by every engine of the backend.
        make_context: creates a context without memory of its own.
        captures: whether decode steps are captured into CUDA graphs here.
        closing: called when the graph is closed.

    Raises:
        BackendError: a tensor of an unknown type.
    """

    def __init__(
        self,
        trt: Any,
        engine: Any,
        alive: Any,
        device: Device,
        scratch: Scratch,
        make_context: MakeContext,
        *,
        captures: bool,
        closing: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._alive = alive
        self.device = device
        self.scratch = scratch
        self.captures = captures
        self._make_context = make_context
        self._closing = closing
        self.tensors: dict[str, Tensor] = {t.spec.name: t for t in tensors_of(trt, engine)}
        self.inputs = tuple(t.spec for t in self.tensors.values() if t.source)
        self.outputs = tuple(t.spec for t in self.tensors.values() if not t.source)
        self._contexts: dict[object, Any] = {}
        self._exchanges: dict[str, Exchange] = {}

    def context(self, key: object, profile: int) -> Any:
        """The context called ``key``, on a profile; made when it is first asked for."""
        if key not in self._contexts:
            made = self._make_context(self._engine)
            if made is None:
                raise BackendError("TensorRT makes no execution context: is the memory full?")
            self._contexts[key] = made
            self.scratch.serve(made, scratch_bytes(self._engine))
            if not made.set_optimization_profile_async(profile, self.device.stream):
                raise BackendError(f"TensorRT does not take profile {profile}")
            self.device.synchronize()
        return self._contexts[key]

    def profile(self, shapes: Mapping[str, Shape]) -> int:
        """The profile that takes these shapes of the free inputs.

        Raises:
            ContractError: there is none.
        """
        free = {n: s for n, s in shapes.items() if not self.tensors[n].spec.fixed}
        found = profile_for(self._engine, free)
        if found is None:
            raise ContractError(f"no profile of the engine takes {free}: build it with a wider one")
        return found

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see ``Graph``."""
        if odd := feeds.keys() ^ {spec.name for spec in self.inputs}:
            raise ContractError(f"missing or unknown graph inputs: {sorted(odd)}")
        for spec in self.inputs:
            spec.check(feeds[spec.name])
        profile = self.profile({n: v.shape for n, v in feeds.items()})
        context = self.context(profile, profile)
        for name, value in feeds.items():
            exchange = self._exchange(name, value.shape)
            exchange.host[...] = value
            exchange.upload()
            self.set_input(context, name, value.shape, exchange)
        for spec in self.outputs:
            shape = self.output_shape(context, spec.name)
            if shape is None:
                raise BackendError(f"the shape of {spec.name!r} depends on values")
            self.set_output(context, spec.name, self._exchange(spec.name, shape))
        self.enqueue(context)
        for spec in self.outputs:
            self._exchanges[spec.name].download()
        self.device.synchronize()
        return {spec.name: self._exchanges[spec.name].host.copy() for spec in self.outputs}

    def _exchange(self, name: str, shape: Shape) -> Exchange:
        held = self._exchanges.get(name)
        if held is None or held.shape != shape:
            if held is not None:
                held.close()
            dtype = self.tensors[name].spec.dtype
            held = self._exchanges[name] = self.device.exchange(shape, dtype)
        return held

    def set_input(self, context: Any, name: str, shape: Shape, exchange: Exchange) -> None:
        """Tell a context where an input lies, and its shape."""
        tensor = self.tensors[name]
        if not tensor.spec.fixed and not context.set_input_shape(name, shape):
            raise ContractError(f"TensorRT does not take {name!r} as {shape}")
        context.set_tensor_address(
            name, exchange.host_address if tensor.on_host else exchange.address
        )

    def set_output(self, context: Any, name: str, exchange: Exchange) -> None:
        """Tell a context where an output goes."""
        on_host = self.tensors[name].on_host
        context.set_tensor_address(name, exchange.host_address if on_host else exchange.address)

    def output_shape(self, context: Any, name: str, wanted: Shape | None = None) -> Shape | None:
        """An output's shape, once every input's is set; what is ``wanted`` where values decide it.

        Raises:
            ContractError: it is not the ``wanted`` one.
        """
        shape = tuple(context.get_tensor_shape(name))
        if any(d < 0 for d in shape):
            return wanted
        if wanted not in (None, shape):
            raise ContractError(f"{name!r} is {shape}, wanted {wanted}")
        return shape

    def enqueue(self, context: Any) -> None:
        """Give the engine's work to the stream."""
        if not context.execute_async_v3(self.device.stream):
            raise BackendError("TensorRT could not start the engine")

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        """State on the device; see ``Graph``."""
        return TrtState(self, state)

    def drop_context(self, key: object) -> None:
        """Release a context; nothing if there is none of this name."""
        made = self._contexts.pop(key, None)
        if made is not None:
            self.scratch.leave(made)

    def close(self) -> None:
        """Release contexts, buffers and engine; may be called twice."""
        for key in list(self._contexts):
            self.drop_context(key)
        for exchange in self._exchanges.values():
            exchange.close()
        self._exchanges.clear()
        if self._engine is not None:
            self._closing()
        self._engine = self._alive = None
