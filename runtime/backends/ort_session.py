"""ONNX Runtime, whatever provider does the work: sessions that stay on it, and their graphs."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError, BackendUnavailable, ContractError, GraphRefused
from edgevlm.runtime.backends.base import EngineOptions, Graph, StatefulGraph, engine_error
from edgevlm.runtime.backends.ort_binding import NO_GRAPH, OrtStateful
from edgevlm.runtime.backends.ort_slots import Place
from edgevlm.tensors import Array, TensorSpec

_log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
# A GPU provider has kernels for these, and leaves them to the CPU where they compute indices.
_INDEX_OPERATORS = frozenset(
    (
        "Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Greater",
        "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Range", "ReduceMax", "ReduceSum",
        "Reshape", "Shape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An execution provider and how it is used.

    Args:
        name: ONNX Runtime's.
        place: where it wants its tensors.
        options: its own settings.
        graph_option: the setting that turns CUDA graphs on; empty where it has none.
        devices: of a plug-in provider: its ``OrtEpDevice`` list.
    """

    name: str
    place: Place
    options: Mapping[str, str] = field(default_factory=dict)
    graph_option: str = ""
    devices: tuple[Any, ...] = ()


def import_ort(backend: str, extra: str) -> Any:
    """The module ``onnxruntime``.

    Raises:
        BackendUnavailable: it is not installed, or does not load.
    """
    try:
        import onnxruntime
    except (ImportError, OSError) as exc:
        raise BackendUnavailable(
            f"backend {backend!r} needs onnxruntime ({exc}): pip install 'edgevlm[{extra}]'"
        ) from exc
    return onnxruntime


class OrtBackend:
    """Loads ONNX graphs on one provider.

    Args:
        name: of the backend.
        ort: the module ``onnxruntime``.
        provider: does the work.
        options: threads, spinning, and whether the CPU may take what the provider cannot.
    """

    target: str | None = None

    def __init__(self, name: str, ort: Any, provider: Provider, options: EngineOptions) -> None:
        self.name = name
        self._ort = ort
        self._provider = provider
        self._options = options

    def versions(self) -> dict[str, str]:
        """The version of onnxruntime."""
        return {"onnxruntime": str(self._ort.__version__)}

    def select(self, bundle: Bundle) -> Bundle:
        """The bundle's own graphs."""
        return bundle

    def load(self, graph: Path, *, burst: bool = False) -> Graph:
        """Load an ONNX graph on the provider; see ``Backend``."""
        provider = self._provider
        if burst and provider.graph_option:
            captures = replace(
                provider,
                options={**provider.options, provider.graph_option: "1"},
                place=replace(provider.place, captures=True),
            )
            try:
                return OrtGraph(self._open(graph, captures, burst), captures.place)
            except BackendError as exc:  # a node on the CPU, or control flow
                _log.info("%s runs without a CUDA graph: %s", graph.name, exc)
        return OrtGraph(self._open(graph, provider, burst), provider.place)

    def _open(self, graph: Path, provider: Provider, burst: bool) -> Any:
        strict = provider.name != CPU and not self._options.cpu_fallback
        try:
            return self._session(graph, provider, burst, strict=strict)
        except BackendError as exc:
            if not (strict and "CPU EP" in str(exc)):
                raise
            session = self._session(graph, provider, burst, strict=False)
            left = on_cpu(session)
            if odd := left.keys() - _INDEX_OPERATORS:
                named = ", ".join(f"{left[n]} {n}" for n in sorted(odd))
                remedy = "set engine.cpu_fallback to let the CPU compute them"
                if "GroupQueryAttention" in odd:
                    remedy = "a GPU wants them in float16: export with --precision fp16"
                raise GraphRefused(
                    f"{graph} has operators that {provider.name} has no kernels for: {named}; "
                    f"{remedy}"
                ) from exc
            _log.info("%s: the provider leaves indices to the CPU: %s", graph.name, dict(left))
            return session

    def _session(self, graph: Path, provider: Provider, burst: bool, *, strict: bool) -> Any:
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
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        elif provider.name != CPU:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        chosen: dict[str, Any] = {"providers": [(provider.name, dict(provider.options))]}
        if provider.devices:
            options.add_provider_for_devices(list(provider.devices), dict(provider.options))
            chosen = {}
        try:
            # enable_fallback: its Python layer would print, and try again on other providers.
            session = ort.InferenceSession(str(graph), options, enable_fallback=0, **chosen)
        except Exception as exc:  # its exception types are not public
            said = f"{graph} does not load on {provider.name}"
            raise engine_error(said, exc, GraphRefused) from exc
        if provider.name not in (used := session.get_providers()):
            raise BackendError(f"{graph} was to run on {provider.name} and runs on {used}")
        return session


def on_cpu(session: Any) -> Counter[str]:
    """Operator -> nodes of a recorded session that the CPU provider got."""
    return Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    )


class OrtGraph:
    """A session as a ``Graph``."""

    def __init__(self, session: Any, place: Place) -> None:
        self._session = session
        self._place = place
        self._captured = itertools.count(1)  # ids of CUDA graphs are the session's
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        where: list[Any] = getattr(session, "get_input_memory_infos", list)()  # from 1.23 on
        self._on_host = frozenset(
            spec.name
            for spec, memory in zip(self.inputs, where, strict=False)
            if memory.name.startswith("Cpu") and place.device != "cpu"
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see ``Graph``."""
        if odd := feeds.keys() ^ {spec.name for spec in self.inputs}:
            raise ContractError(f"missing or unknown graph inputs: {sorted(odd)}")
        for spec in self.inputs:
            spec.check(feeds[spec.name])
        names = [spec.name for spec in self.outputs]
        options = None
        if self._place.captures:
            options = self._place.ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", NO_GRAPH)
        try:
            values = self._session.run(names, dict(feeds), options)
        except Exception as exc:
            raise engine_error("ONNX Runtime failed", exc) from exc
        return dict(zip(names, values, strict=True))

    def bind(self, state: Mapping[str, str]) -> StatefulGraph:
        """Buffers on the provider's device; see ``Graph``."""
        return OrtStateful(
            self._session,
            self.inputs,
            self.outputs,
            state,
            self._place,
            self._on_host,
            self._captured,
        )

    def close(self) -> None:
        """Release the session; may be called twice."""
        self._session = None


def _spec(node: Any) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d or f"d{i}") for i, d in enumerate(node.shape))
    if node.type not in _DTYPES:
        raise BackendError(f"{node.name!r} has the type {node.type}; known are {list(_DTYPES)}")
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)
