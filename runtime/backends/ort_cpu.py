"""ONNX Runtime on the CPU: the default backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.errors import BackendError, BackendUnavailable, ContractError
from edgevlm.runtime.backends.base import EngineOptions, Graph, StatefulGraph
from edgevlm.tensors import Array, TensorSpec

PROVIDER = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OrtCpuBackend:
    """ONNX Runtime's CPU provider.

    Args:
        options: threads and spinning.

    Raises:
        BackendUnavailable: onnxruntime is not installed, or has no CPU provider.
    """

    name = "ort-cpu"

    def __init__(self, options: EngineOptions) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise BackendUnavailable(
                "backend 'ort-cpu' needs onnxruntime: pip install 'edgevlm[cpu]'"
            ) from exc
        if PROVIDER not in (known := onnxruntime.get_available_providers()):
            raise BackendUnavailable(f"{PROVIDER} is not in this onnxruntime, which has {known}")
        self._ort: Any = onnxruntime
        self._options = options

    def versions(self) -> dict[str, str]:
        """The version of onnxruntime."""
        return {"onnxruntime": str(self._ort.__version__)}

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load an ONNX graph on the CPU provider."""
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._options.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = True  # without it a prefill pays for page faults
        options.enable_mem_pattern = False  # sequence lengths vary from call to call
        options.log_severity_level = 3
        spin = "1" if self._options.spin else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        stop = "0" if burst else "1"
        options.add_session_config_entry("session.force_spinning_stop", stop)
        # Smaller blocks towards the end of an operator, so that no worker waits for the last one.
        options.add_session_config_entry("session.dynamic_block_base", "4")
        try:
            session = ort.InferenceSession(str(graph), options, providers=[PROVIDER])
        except Exception as exc:  # its exception types are not public
            raise BackendError(f"{graph} does not load on {PROVIDER}: {exc}") from exc
        return _OrtGraph(ort, session)


class _OrtGraph:
    def __init__(self, ort: Any, session: Any) -> None:
        self._ort = ort
        self._session = session
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if odd := feeds.keys() ^ {spec.name for spec in self.inputs}:
            raise ContractError(f"missing or unknown graph inputs: {sorted(odd)}")
        for spec in self.inputs:
            spec.check(feeds[spec.name])
        names = [spec.name for spec in self.outputs]
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as exc:
            raise BackendError(f"ONNX Runtime failed: {exc}") from exc
        return dict(zip(names, values, strict=True))

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        return _OrtStateful(self._ort, self._session, self.inputs, self.outputs, state)

    def close(self) -> None:
        self._session = None


class _Buffer:
    """A numpy array and the OrtValue over the same memory."""

    def __init__(self, ort: Any, shape: tuple[int, ...], dtype: str) -> None:
        self.array = np.zeros(shape, dtype)
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array)


class _OrtStateful:
    """In-place state through IOBinding: every buffer is bound once per input shape.

    A call whose shapes equal the last one's (a decode step) only copies its small inputs and
    runs; nothing is bound or allocated.
    """

    def __init__(
        self,
        ort: Any,
        session: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        state: Mapping[str, str],
    ) -> None:
        self._ort = ort
        self._session = session
        self._binding = session.io_binding()
        self._in = {s.name: s for s in inputs}
        self._out = {s.name: s for s in outputs}
        self._buffers: dict[str, _Buffer] = {}
        for output, source in state.items():
            spec = self._in[source]
            shape = tuple(d for d in spec.shape if isinstance(d, int))
            if len(shape) != len(spec.shape):
                raise ContractError(f"state {source!r} has free dimensions: {spec.shape}")
            buffer = _Buffer(ort, shape, spec.dtype)
            self._buffers[source] = self._buffers[output] = buffer
            self._binding.bind_ortvalue_input(source, buffer.value)
            self._binding.bind_ortvalue_output(output, buffer.value)

    def run(self, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, value in feeds.items():
            self._slot(name, value.shape, self._in[name].dtype, source=True)[...] = value
        for name, shape in shapes.items():
            self._slot(name, shape, self._out[name].dtype, source=False)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as exc:
            raise BackendError(f"ONNX Runtime failed: {exc}") from exc

    def _slot(self, name: str, shape: tuple[int, ...], dtype: str, *, source: bool) -> Array:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.array.shape != shape:
            buffer = self._buffers[name] = _Buffer(self._ort, shape, dtype)
            if source:
                self._binding.bind_ortvalue_input(name, buffer.value)
            else:
                self._binding.bind_ortvalue_output(name, buffer.value)
        return buffer.array

    def output(self, name: str) -> Array:
        return self._buffers[name].array

    def store(self, rows: Mapping[str, str], at: int) -> None:
        for output, source in rows.items():
            new = self._buffers[output].array
            self._buffers[source].array[..., at : at + new.shape[-2], :] = new

    def close(self) -> None:
        self._binding = None
        self._session = None
        self._buffers.clear()


def _spec(node: Any) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d or f"d{i}") for i, d in enumerate(node.shape))
    if node.type not in _DTYPES:
        raise BackendError(f"{node.name!r} has the type {node.type}; known are {list(_DTYPES)}")
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)
