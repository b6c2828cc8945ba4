"""An ONNX Runtime with a TensorRT provider that does what it was told to: for tests.

It checks what the caller must not forget, and writes a context model that describes the options.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import helper

_TYPES = {"FLOAT": "tensor(float)", "FLOAT16": "tensor(float16)", "INT64": "tensor(int64)"}


class _Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@dataclass(eq=False)
class ScriptedOrt:
    """Stands for the module ``onnxruntime``.

    Args:
        version: what it calls itself.
        providers: that it has.
        refuses: what its session says instead of opening.
        leaves: an operator that TensorRT does not take.
        writes: whether a context model appears.
    """

    version: str = "1.31.1"
    providers: Sequence[str] = ("TensorrtExecutionProvider", "CPUExecutionProvider")
    refuses: str = ""
    leaves: str = ""
    writes: bool = True
    SessionOptions: type = _Options

    def __post_init__(self) -> None:
        self.__version__ = self.version

    def get_available_providers(self) -> list[str]:
        """``onnxruntime.get_available_providers``."""
        return list(self.providers)

    def InferenceSession(
        self, path: str, options: _Options, providers: Sequence[tuple[str, dict[str, str]]]
    ) -> Any:
        """``onnxruntime.InferenceSession``."""
        if options.entries.get("session.disable_cpu_ep_fallback") != "1":
            raise RuntimeError("the CPU would compute what TensorRT cannot, without a word")
        if self.refuses:
            raise RuntimeError(self.refuses)
        ((_, chosen),) = providers
        model = onnx.load(path, load_external_data=False)
        if self.writes:
            self._write(model, chosen)
        sides = (model.graph.input, model.graph.output)
        inputs, outputs = ([_value(v) for v in side] for side in sides)
        return SimpleNamespace(get_inputs=lambda: inputs, get_outputs=lambda: outputs)

    def _write(self, model: onnx.ModelProto, chosen: dict[str, str]) -> None:
        graph = model.graph
        ends = [[v.name for v in side] for side in (graph.input, graph.output)]
        context = helper.make_node(
            "EPContext", *ends, name="engine", domain="com.microsoft",
            ep_cache_context=json.dumps(chosen), embed_mode=1,
        )  # fmt: skip
        left = [node for node in graph.node if node.op_type == self.leaves]
        whole = helper.make_graph([context, *left], graph.name, graph.input, graph.output)
        made = helper.make_model(whole, opset_imports=[helper.make_opsetid("com.microsoft", 1)])
        Path(chosen["trt_ep_context_file_path"]).write_bytes(made.SerializeToString())


def _value(value: onnx.ValueInfoProto) -> Any:
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
    return SimpleNamespace(
        name=value.name, type=_TYPES.get(kind, f"tensor({kind.lower()})"), shape=shape
    )
