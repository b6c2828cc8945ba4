"""The backend ``trt`` over the stand-in for TensorRT, and engines for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevlm.bundle.engines import Platform
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.scripted_trt import MAGIC, VERSION, Ranges, ScriptedTrt
from edgevlm.runtime.backends.trt import EngineBackend

HERE = Platform(library="tensorrt", version=VERSION, cuda="12.6", sm="87", device="host memory")


def write_engine(
    path: Path,
    graph: Path,
    *,
    profiles: Sequence[Ranges] = (),
    aliases: Mapping[str, str] | None = None,
    version: str = VERSION,
) -> None:
    """Write an engine file that stands for an ONNX graph.

    Args:
        path: the file.
        graph: an ONNX file that stays where it is.
        profiles: shapes that the engine takes; none for a graph without free dimensions.
        aliases: output -> input in the same buffer.
        version: of the library that claims to have made it.
    """
    head = {
        "graph": str(graph), "profiles": list(profiles), "aliases": dict(aliases or {}),
        "version": version,
    }  # fmt: skip
    path.write_bytes(MAGIC + json.dumps(head).encode() + b"\n")


class ScriptedTrtBackend(EngineBackend):
    """The backend ``trt`` over the stand-in.

    Args:
        options: whose engines to trust.
        here: what it claims to be; the version is the library's too.
        api: the device; host memory that captures graphs when None.
    """

    def __init__(
        self, options: EngineOptions, here: Platform = HERE, api: HostApi | None = None
    ) -> None:
        self.api = api or HostApi(sm=int(here.sm))
        self.trt = ScriptedTrt(self.api, here.version)
        super().__init__("trt", self.trt, Device(self.api), here, options)
