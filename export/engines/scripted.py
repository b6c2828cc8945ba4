"""A TensorRT that does what it was told to: for tests of everything around a compiler.

It ships with the package, as ``runtime/backends/scripted.py`` does. It reads the graph with onnx,
checks what the caller must not forget, and writes a description where TensorRT would write code.
Only names that TensorRT 10.3's Python package has are there; ``without`` takes away those that a
later version dropped. A child process finds an instance as ``package.module:NAME``.
"""

from __future__ import annotations

import enum
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import onnx

from edgevlm.export.engines.scripted_network import Layer, Network, values


class _Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _ILogger:
    """``tensorrt.ILogger``."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = _Severity

    def log(self, severity: _Severity, message: str) -> None:
        """Take a message."""


class _IProgressMonitor:
    """``tensorrt.IProgressMonitor``."""


class _Flag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class _Pool(enum.IntEnum):
    WORKSPACE = 0


@dataclass(eq=False)
class ScriptedTensorRT:
    """Stands for the module ``tensorrt``.

    Args:
        version: what it calls itself.
        says: warnings and errors that it gives while building.
        outcome: ``engine`` builds; ``refused`` gives none, after what it ``says``; ``raises``
            raises it; ``killed`` ends the process as the system does where memory runs out.
        refuses: an operator that its importer does not take.
        drops: a network input that its importer drops.
        plugin: an operator that becomes a plugin.
        without: names that this version does not have.
    """

    version: str = "10.3.0"
    says: Sequence[str] = ()
    outcome: Literal["engine", "refused", "raises", "killed"] = "engine"
    refuses: str = ""
    drops: str = ""
    plugin: str = ""
    without: frozenset[str] = frozenset()
    ILogger: type = _ILogger
    IProgressMonitor: type = _IProgressMonitor
    NetworkDefinitionCreationFlag: Any = _Flag
    MemoryPoolType: Any = _Pool

    def __post_init__(self) -> None:
        self.__version__ = self.version
        if "STRONGLY_TYPED" in self.without:
            self.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=_Flag(0))

    def Builder(self, logger: _ILogger) -> _Builder:
        """``tensorrt.Builder``."""
        return _Builder(self, logger)

    def OnnxParser(self, network: Network, logger: _ILogger) -> _Parser:
        """``tensorrt.OnnxParser``."""
        return _Parser(self, network, logger)


@dataclass
class _ParserError:
    """As before TensorRT 10.2: it has the node's number, not its name."""

    number: int
    said: str

    def node(self) -> int:
        return self.number

    def desc(self) -> str:
        return self.said


class _Parser:
    def __init__(self, trt: ScriptedTensorRT, network: Network, logger: _ILogger) -> None:
        self._trt, self._network, self._logger = trt, network, logger
        self._errors: list[_ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        graph = onnx.load(path, load_external_data=False).graph
        for number, node in enumerate(graph.node):
            if node.op_type == self._trt.refuses:
                self._errors.append(_ParserError(number, f"no importer for {node.op_type}"))
                self._logger.log(_Severity.ERROR, f"While parsing node number {number}")
                return False
            self._network.layers.append(Layer(self._without_dropped(node), self._kind(node)))
        self._network.inputs.extend(values(graph.input))
        self._network.outputs.extend(values(graph.output))
        return True

    def _without_dropped(self, node: onnx.NodeProto) -> onnx.NodeProto:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        del kept.input[:]
        kept.input.extend("" if name == self._trt.drops else name for name in node.input)
        return kept

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type == self._trt.plugin:
            return "PLUGIN_V3"
        return "KV_CACHE_UPDATE" if node.op_type == "TensorScatter" else node.op_type.upper()


class _TimingCache:
    def __init__(self, known: bytes) -> None:
        self._known = known

    def serialize(self) -> bytes:
        return self._known + b"timed;"


@dataclass
class _Profile:
    shapes: dict[str, Any] = field(default_factory=dict)

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self.shapes[name] = [list(low), list(usual), list(high)]


class _Config:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self.limits: dict[str, int] = {}
        self.profiles: list[_Profile] = []
        self._cache: _TimingCache | None = None

    def set_memory_pool_limit(self, pool: _Pool, size: int) -> None:
        self.limits[pool.name] = size

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, known: bytes) -> _TimingCache:
        return _TimingCache(known)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> _TimingCache | None:
        return self._cache


class _Builder:
    def __init__(self, trt: ScriptedTensorRT, logger: _ILogger) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Network:
        if "STRONGLY_TYPED" not in self._trt.without and flags != 1 << _Flag.STRONGLY_TYPED:
            raise ValueError("a network of this version is weakly typed unless it is asked not to")
        return Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: Network, config: _Config) -> bytes | None:
        config.progress_monitor.phase_start("Building engine", None, 1)
        config.progress_monitor.step_complete("Building engine", 0)
        config.progress_monitor.phase_finish("Building engine")
        for message in self._trt.says:
            self._logger.log(_Severity.ERROR, message)
        if self._trt.outcome == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._trt.outcome == "raises":
            raise MemoryError(*self._trt.says)
        free = {t.name for t in network.inputs if -1 in t.shape}
        ranged = {name for profile in config.profiles for name in profile.shapes}
        if self._trt.outcome == "refused" or free - ranged:
            return None
        described = {
            "scripted": self._trt.version,
            "layers": [layer.name for layer in network.layers],
            "profiles": [profile.shapes for profile in config.profiles],
            "level": config.builder_optimization_level,
            "limits": config.limits,
        }
        return json.dumps(described).encode()
