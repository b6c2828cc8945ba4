"""What ``--target`` may name, and what follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevlm.bundle.engines import Library
from edgevlm.errors import ConfigError

RTX_SMS = ("86", "89", "120")
TARGETS = (*(f"trt-rtx:sm{sm}" for sm in RTX_SMS), "trt", "ort-trt")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTarget:
    """One target.

    Args:
        name: as given to ``--target``.
        backend: the runtime backend that runs its engines.
        library: whose engines they are.
        module: the Python module of that library.
        sm: compiled for this compute capability ahead of time; None for this machine's device.
    """

    name: str
    backend: str
    library: Library
    module: str
    sm: str | None


def parse_target(name: str) -> BuildTarget:
    """Read a ``--target``.

    Raises:
        ConfigError: there is no such target; the message lists those there are.
    """
    if name == "trt":
        return BuildTarget(name=name, backend=name, library="tensorrt", module="tensorrt", sm=None)
    if name == "ort-trt":
        return BuildTarget(
            name=name, backend=name, library="onnxruntime", module="onnxruntime", sm=None
        )
    if (found := re.fullmatch(r"trt-rtx:sm([0-9]+)", name)) and found[1] in RTX_SMS:
        return BuildTarget(
            name=name, backend="trt-rtx", library="tensorrt-rtx", module="tensorrt_rtx", sm=found[1]
        )
    hint = ""
    if name.startswith("trt-rtx"):
        hint = (
            "; TensorRT-RTX is for GeForce and RTX cards: a Jetson has sm87 or sm110 and takes trt"
        )
    raise ConfigError(f"--target {name}: one of {', '.join(TARGETS)}{hint}")
