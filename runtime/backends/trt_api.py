"""What edgevlm asks of TensorRT's Python module, on 10.3 to 11 and on TensorRT-RTX 1.4 on."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.errors import BackendError, BackendUnavailable, EngineMismatch
from edgevlm.tensors import TensorSpec

_log = logging.getLogger(__name__)

# Names of ``trt.DataType`` -> ours.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
# What the library says of an engine that is whole and of another version or device.
_MISMATCH = ("version", "compute", "platform", "different model", "incompatible device")
_NO_DRIVER = "cudaError 35"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of an engine.

    Args:
        spec: name, dtype and shape; free dimensions are called ``name.0`` and so on.
        source: it is an input.
        on_host: its address is one of host memory (values that decide shapes).
        alias: of an output: the input whose buffer it must share.
    """

    spec: TensorSpec
    source: bool
    on_host: bool
    alias: str | None


def open_engine(trt: Any, path: Path) -> tuple[Any, Any]:
    """Deserialise an engine file.

    Returns:
        the engine, and what must stay alive with it.

    Raises:
        EngineMismatch: it was made by another version, or for another device.
        BackendUnavailable: the library finds no driver.
        BackendError: it is damaged, or does not fit the memory.
    """
    said: list[str] = []
    logger = _logger(trt, said)
    with path.open("rb") as file:
        try:
            content: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            content = b""
        runtime = trt.Runtime(logger)
        try:
            engine = runtime.deserialize_cuda_engine(content)
        except Exception as exc:  # pybind turns C++ errors into several types
            said.append(str(exc))
            engine = None
        finally:
            if isinstance(content, mmap.mmap):
                content.close()
    if engine is None:
        raise _refusal(path, said)
    return engine, (runtime, logger)


def _refusal(path: Path, said: list[str]) -> BackendError:
    reason = "; ".join(" ".join(s.split()) for s in said) or "it gives no reason"
    if any(_NO_DRIVER in s for s in said):
        return BackendUnavailable(
            f"{path} needs an NVIDIA driver, and there is none that this TensorRT can use: {reason}"
        )
    if any(word in s.lower() for s in said for word in _MISMATCH):
        return EngineMismatch(
            f"{path} was made for another TensorRT or another device; build it again here with "
            f"edgevlm build --force: {reason}"
        )
    return BackendError(f"{path} is no engine that this TensorRT can load: {reason}")


def _logger(trt: Any, said: list[str]) -> Any:
    """A logger of TensorRT that keeps what it says of errors, and passes the rest on."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                said.append(message)
                del said[:-20]
            _log.debug("%s", message)

    return Logger()


def tensors_of(trt: Any, engine: Any) -> tuple[Tensor, ...]:
    """Every input and output of an engine.

    Raises:
        BackendError: one has a type that numpy lacks.
    """
    alias_of: Callable[[str], str | None] = getattr(
        engine, "get_aliased_input_tensor", lambda _name: None
    )
    found = []
    for n in range(engine.num_io_tensors):
        name = engine.get_tensor_name(n)
        kind = engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise BackendError(f"{name!r} has the type {kind}; known are {', '.join(_DTYPES)}")
        shape = tuple(
            f"{name}.{axis}" if size < 0 else int(size)
            for axis, size in enumerate(engine.get_tensor_shape(name))
        )
        source = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        found.append(
            Tensor(
                spec=TensorSpec(name=name, dtype=_DTYPES[kind], shape=shape),
                source=source,
                on_host=engine.get_tensor_location(name) == trt.TensorLocation.HOST,
                alias=None if source else alias_of(name) or None,
            )
        )
    return tuple(found)


def scratch_bytes(engine: Any) -> int:
    """Device memory that a context of the engine works in, over all profiles."""
    for name in ("device_memory_size_v2", "device_memory_size"):
        if hasattr(engine, name):
            return int(getattr(engine, name))
    raise BackendError("this TensorRT does not say how much memory an engine needs")


def give_scratch(context: Any, address: int, nbytes: int) -> None:
    """Set the device memory that a context works in."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(address, nbytes)
    else:
        context.device_memory = address


def profile_for(engine: Any, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """The narrowest profile that takes these shapes of free inputs; None if there is none."""
    if not shapes:
        return 0
    best: tuple[int, int] | None = None
    for profile in range(engine.num_optimization_profiles):
        width = 0
        for name, shape in shapes.items():
            low, _, high = (tuple(d) for d in engine.get_tensor_profile_shape(name, profile))
            if not all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True)):
                break
            width += sum(b - a for a, b in zip(low, high, strict=True))
        else:
            best = min(best, (width, profile)) if best else (width, profile)
    return best[1] if best else None
