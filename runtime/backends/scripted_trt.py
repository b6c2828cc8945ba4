"""A stand-in for TensorRT's Python module: its engines are ONNX graphs, run by ONNX Runtime.

It ships with the package, as ``scripted`` does: the whole of the backends ``trt`` and ``trt-rtx``
runs on it, over a device made of host memory. What it is given late, wrong or in the wrong memory
fails as it would there: work happens when the stream is waited for, with the addresses that were
set when it was enqueued; scratch memory is overwritten; every address must have been allocated.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.tensors import Array

MAGIC = b"scripted engine\n"
VERSION = "10.3.0"
Ranges = Mapping[str, Sequence[Sequence[int]]]  # free input -> min, opt, max


class _Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    INFO = 3


class _Type(enum.Enum):
    FLOAT = "tensor(float)"
    HALF = "tensor(float16)"
    INT64 = "tensor(int64)"
    INT32 = "tensor(int32)"
    INT8 = "tensor(int8)"
    UINT8 = "tensor(uint8)"
    BOOL = "tensor(bool)"
    DOUBLE = "tensor(double)"


_NUMPY = {
    "FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8",
    "UINT8": "uint8", "BOOL": "bool", "DOUBLE": "float64",
}  # fmt: skip


class ScriptedTrt:
    """The module.

    Args:
        api: the device.
        version: that it claims.
        aliasing: whether engines can say which outputs lie in their input's buffer (10.15 and
            later).
    """

    class ILogger:
        """As TensorRT's: a base class."""

        Severity = _Severity

    DataType = _Type
    TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
    TensorLocation = enum.Enum("TensorLocation", ["DEVICE", "HOST"])
    ExecutionContextAllocationStrategy = enum.Enum(
        "ExecutionContextAllocationStrategy", ["STATIC", "USER_MANAGED"]
    )

    def __init__(self, api: HostApi, version: str = VERSION, *, aliasing: bool = True) -> None:
        self.__version__ = version
        self.api = api
        self.aliasing = aliasing
        self.capturable = True

    def Runtime(self, logger: Any) -> _Runtime:
        """A runtime, which reads engines."""
        return _Runtime(self, logger)


class _Runtime:
    def __init__(self, trt: ScriptedTrt, logger: Any) -> None:
        self._trt = trt
        self._logger = logger

    def deserialize_cuda_engine(self, content: Any) -> _Engine | None:
        data = bytes(content)
        if not data.startswith(MAGIC):
            self._refuse("Serialization (magicTag == kEXPECTED_MAGIC_TAG failed)")
            return None
        try:
            head = json.loads(data[len(MAGIC) :])
        except ValueError:
            self._refuse("Serialization (unexpected end of the engine)")
            return None
        if head["version"] != self._trt.__version__:
            self._refuse("Serialization (Version tag does not match)")
            return None
        made = _Engine(self._trt, head)
        if self._trt.aliasing:
            made.get_aliased_input_tensor = made.aliases.get
        return made

    def _refuse(self, why: str) -> None:
        self._logger.log(_Severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: {why}")


class _Engine:
    get_aliased_input_tensor: Any

    def __init__(self, trt: ScriptedTrt, head: dict[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        self.session: Any = onnxruntime.InferenceSession(
            head["graph"], options, providers=["CPUExecutionProvider"]
        )
        self.trt = trt
        self.aliases: dict[str, str] = head["aliases"]
        self.profiles: list[Ranges] = head["profiles"] or [{}]
        self.inputs: dict[str, Any] = {n.name: n for n in self.session.get_inputs()}
        self.nodes: dict[str, Any] = self.inputs | {n.name: n for n in self.session.get_outputs()}
        self.num_io_tensors = len(self.nodes)
        self.num_optimization_profiles = len(self.profiles)
        self.device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_dtype(self, name: str) -> _Type:
        return _Type(self.nodes[name].type)

    def get_tensor_shape(self, name: str) -> list[int]:
        return [d if isinstance(d, int) else -1 for d in self.nodes[name].shape]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.trt.TensorIOMode
        return mode.INPUT if name in self.inputs else mode.OUTPUT

    def get_tensor_location(self, _name: str) -> Any:
        return self.trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        fixed = self.get_tensor_shape(name)
        return [list(s) for s in self.profiles[profile].get(name, [fixed] * 3)]

    def create_execution_context(self, strategy: Any) -> _Context:
        assert strategy == self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {
            n: tuple(node.shape)
            for n, node in engine.inputs.items()
            if all(isinstance(d, int) for d in node.shape)
        }
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)

    def set_optimization_profile_async(self, profile: int, _stream: int) -> bool:
        self._profile = profile
        return profile < self._engine.num_optimization_profiles

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self._scratch = (address, nbytes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        self._shapes[name] = tuple(shape)
        return all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.nodes

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._engine.inputs:
            return self._shapes[name]
        sizes = {
            label: size
            for n, shape in self._shapes.items()
            for label, size in zip(self._engine.inputs[n].shape, shape, strict=True)
        }
        wanted = self._engine.nodes[name].shape
        return tuple(d if isinstance(d, int) else sizes.get(d, -1) for d in wanted)

    def execute_async_v3(self, stream: int) -> bool:
        engine, api = self._engine, self._engine.trt.api
        if not engine.trt.capturable and stream in api.capturing:
            return False
        open_ended = {n for n in engine.nodes if -1 in self.get_tensor_shape(n)}
        if engine.nodes.keys() - self._addresses.keys() - open_ended:
            return False
        shapes = {n: self.get_tensor_shape(n) for n in engine.nodes}
        addresses, (scratch, nbytes) = dict(self._addresses), self._scratch
        for output, source in engine.aliases.items():
            if addresses[output] != addresses[source]:
                return False

        def view(name: str) -> Array:
            kind = np.dtype(_NUMPY[_Type(engine.nodes[name].type).name])
            size = math.prod(shapes[name]) * kind.itemsize
            api.require(addresses[name], size)
            window = (ctypes.c_uint8 * size).from_address(addresses[name])
            return np.ctypeslib.as_array(window).view(kind).reshape(shapes[name])

        def work() -> None:
            api.require(scratch, max(nbytes, engine.device_memory_size_v2))
            ctypes.memset(scratch, 0xEE, nbytes)
            outputs = [n for n in addresses if n not in engine.inputs]
            found = engine.session.run(outputs, {n: view(n).copy() for n in engine.inputs})
            for name, value in zip(outputs, found, strict=True):
                shapes[name] = value.shape  # a free one may depend on values
                view(name)[...] = value

        api.enqueue(stream, work)
        return True
