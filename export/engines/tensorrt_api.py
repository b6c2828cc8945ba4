"""Compile one graph through TensorRT's Python API: 10.x, 11.x, and TensorRT-RTX.

Networks are strongly typed: precision is what the graph says, and no flag changes it. What 11.x
removed (weak typing, calibrators) is not used; what 10.3 lacks is asked for before it is used.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgevlm.bundle.engines import Platform
from edgevlm.bundle.entries import TensorEntry
from edgevlm.errors import BuildError, UnsupportedOperator
from edgevlm.export.engines.job import MIB, CompileJob, Device, Survey
from edgevlm.export.engines.library import cuda_of_wheel
from edgevlm.export.engines.network import allow_decomposing, check_network, tensors
from edgevlm.export.engines.symptoms import build_failure

Say = Callable[[str], None]


class Network:
    """One graph, parsed and checked, and the engine that it becomes.

    Args:
        trt: the library's module.
        job: what to compile.
        device: what for.
        say: told what the compiler is doing.
    """

    def __init__(self, trt: Any, job: CompileJob, device: Device, say: Say) -> None:
        self._trt = trt
        self._job = job
        self._device = device
        self._say = say
        self._log = _logger(trt)
        self._builder = trt.Builder(self._log)
        # 11.x knows only strong typing and ignores the flag, if it still has it.
        typing = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        flags = 0 if typing is None else 1 << int(typing)
        self._network = self._builder.create_network(flags)

    def parse(self) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
        """Read the graph; returns inputs and outputs.

        Raises:
            UnsupportedOperator: the parser refuses a node, which is named.
            BuildError: the network is not what the graph was.
        """
        parser = self._trt.OnnxParser(self._network, self._log)
        self._say("parsing")
        if not parser.parse_from_file(self._job.graph):
            raise self._refused(parser)
        check_network(self._network, self._job.name, self._job.aliases)
        allow_decomposing(self._trt, self._network)
        return tensors(self._network, "input"), tensors(self._network, "output")

    def _refused(self, parser: Any) -> BuildError:
        for i in range(parser.num_errors):
            error = parser.get_error(i)
            node = _call(error, "node_name") or f"node {error.node()}"
            op = _call(error, "node_operator") or "its operator"
            return UnsupportedOperator(
                f"{self._job.name}: {node} ({op}) is refused: {' '.join(error.desc().split())}; "
                "another --precision may avoid it, a newer library may know it"
            )
        said = self._log.messages
        return BuildError(
            f"{self._job.name}: the graph cannot be read: {said[-1] if said else 'no reason given'}"
        )

    def build(self, engine: Path) -> None:
        """Compile, and write the engine.

        Raises:
            BuildMemoryError: recognised from what the compiler said.
            BuildError: any other reason.
            OSError: the engine cannot be written.
        """
        config = self._config()
        cache = self._timing_cache(config)
        self._log.messages.clear()
        try:
            plan = self._builder.build_serialized_network(self._network, config)
        except (MemoryError, RuntimeError) as exc:
            self._log.messages.append(str(exc) or type(exc).__name__)
            plan = None
        if plan is None:
            raise build_failure(self._job.name, self._log.messages, self._job.workspace_mib)
        self._say("writing")
        with engine.open("wb") as file:
            file.write(plan)
            file.flush()
            os.fsync(file.fileno())
        if cache is not None:
            _replace(cache, config.get_timing_cache().serialize())

    def _config(self) -> Any:
        trt, job = self._trt, self._job
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_mib * MIB)
        config.builder_optimization_level = job.level
        if job.library == "tensorrt-rtx":
            config.num_compute_capabilities = 1
            sm = getattr(trt.ComputeCapability, f"SM{self._device.sm}")
            config.set_compute_capability(sm, 0)
        for ranges in job.profiles:
            profile = self._builder.create_optimization_profile()
            for name, shapes in ranges.items():
                profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
            if config.add_optimization_profile(profile) < 0:
                raise BuildError(f"{job.name}: the profile is refused: {self._log.messages[-1:]}")
        config.progress_monitor = _monitor(trt, self._say)
        return config

    def _timing_cache(self, config: Any) -> Path | None:
        """Give the builder what earlier builds on this device timed."""
        if self._job.timing_cache is None:
            return None
        folder = Path(self._job.timing_cache)
        path = folder / f"{self._job.library}-{self._trt.__version__}-sm{self._device.sm}.timing"
        known = path.read_bytes() if path.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
        return path


def platform_of(trt: Any, job: Survey, device: Device) -> Platform:
    """What the engines of this library and device are bound to."""
    cuda = device.cuda or cuda_of_wheel(job.module)
    return Platform(
        library=job.library,
        version=str(trt.__version__),
        cuda=cuda,
        sm=device.sm,
        device=device.name,
    )


def _call(error: Any, name: str) -> str:
    """What a parser error says of its node; TensorRT before 10.2 does not say it."""
    found = getattr(error, name, None)
    return str(found()) if found is not None else ""


def _replace(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="timing-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors: only they tell why a build failed."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.WARNING):
                self.messages.append(message)

    return Log()


def _monitor(trt: Any, say: Say) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the outermost phases; their inner steps are thousands."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self._steps = steps
                say(phase.lower())

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            return True

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
