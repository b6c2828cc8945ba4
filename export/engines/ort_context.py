"""Compile one graph through ONNX Runtime's TensorRT provider, into a context model.

A context model is an ONNX file of one node that holds the engine. Loading it skips parsing and
building, and needs no weights. Not yet run on hardware.

Source: ONNX Runtime documentation, TensorRT execution provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgevlm.bundle.engines import ShapeRange
from edgevlm.bundle.entries import TensorEntry
from edgevlm.errors import BackendUnavailable, BuildError, UnsupportedOperator
from edgevlm.export.engines.job import MIB, CompileJob
from edgevlm.export.engines.library import REMEDIES
from edgevlm.export.engines.symptoms import build_failure

PROVIDER = "TensorrtExecutionProvider"
_DTYPES = {"float": "float32", "double": "float64"}


def provider_options(job: CompileJob) -> dict[str, str]:
    """The provider's settings for a job, as it wants them: strings."""
    options = {
        "device_id": "0",
        "trt_max_workspace_size": str(job.workspace_mib * MIB),
        "trt_builder_optimization_level": str(job.level),
        "trt_fp16_enable": "1",  # the graph's own types decide; without it half is refused
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": job.engine,
        "trt_ep_context_embed_mode": "1",
    }
    if job.timing_cache is not None:
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": job.timing_cache}
    for end in ("min", "opt", "max") if job.profiles else ():
        options[f"trt_profile_{end}_shapes"] = ",".join(_shapes(p, end) for p in job.profiles)
    return options


def _shapes(profile: Mapping[str, ShapeRange], end: str) -> str:
    """``name:1x3x8,name:1x1``."""
    return ",".join(
        f"{name}:{'x'.join(map(str, getattr(shapes, end)))}" for name, shapes in profile.items()
    )


def compile_context(
    ort: Any, job: CompileJob
) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
    """Compile, and write the context model; returns inputs and outputs.

    Raises:
        BackendUnavailable: this ONNX Runtime has no TensorRT provider.
        UnsupportedOperator: TensorRT took only a part of the graph.
        BuildMemoryError: recognised from what the provider said.
        BuildError: any other reason.
    """
    known = ort.get_available_providers()
    if PROVIDER not in known:
        raise BackendUnavailable(
            f"this onnxruntime has no {PROVIDER} (it has {', '.join(known)}): "
            f"{REMEDIES['onnxruntime']}"
        )
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if job.timing_cache is not None:
        Path(job.timing_cache).mkdir(parents=True, exist_ok=True)
    try:
        session = ort.InferenceSession(
            job.graph, options, providers=[(PROVIDER, provider_options(job))]
        )
    except Exception as exc:  # onnxruntime's exception types are not public
        raise build_failure(job.name, [str(exc)], job.workspace_mib) from exc
    context = Path(job.engine)
    if not context.is_file():
        raise BuildError(f"{job.name}: the provider wrote no context model to {context}")
    others = [n for n in onnx.load(str(context)).graph.node if n.op_type != "EPContext"]
    if others:
        raise UnsupportedOperator(
            f"{job.name}: TensorRT leaves {len(others)} nodes to ONNX Runtime, first "
            f"{others[0].name} ({others[0].op_type})"
        )
    return _entries(session.get_inputs()), _entries(session.get_outputs())


def _entries(values: Sequence[Any]) -> tuple[TensorEntry, ...]:
    found = []
    for value in values:
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(d if isinstance(d, int) else f"axis_{n}" for n, d in enumerate(value.shape))
        found.append(TensorEntry(name=value.name, dtype=_DTYPES.get(kind, kind), shape=shape))
    return tuple(found)
