"""What share of a device's peak each engine reaches, from ``engines.toml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from pydantic import Field

from edgevlm.bundle.images import Strict
from edgevlm.runtime.device.plan.devices import Device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Engine(Strict):
    """One engine; shares are of the device's peak, in (0, 1].

    Args:
        matmul: of matrix products with many rows.
        attention: of products between queries, keys and values.
        convolution: of convolutions.
        bandwidth: of the memory's.
        half_rows: rows at which a product reaches half of ``matmul`` on a device of 10 TFLOPS;
            larger devices need more, by the square root of their peak.
        launch_us: of one kernel or operator.
        fused: share of values that never leave the chip.
        value_bytes: of an activation.
        process_mb: what the engine and its libraries take beside the model.
        build_factor: peak of a build, in bytes of the weights that go in.
        build_base_mb: of a building process.
        tactic_factor: largest contiguous allocation of a build, in bytes of the largest weight.
        fitted: which of these were fitted on published rows.
    """

    title: str
    matmul: float = Field(gt=0, le=1)
    attention: float = Field(gt=0, le=1)
    convolution: float = Field(gt=0, le=1)
    bandwidth: float = Field(gt=0, le=1)
    half_rows: float = Field(ge=0)
    launch_us: float = Field(ge=0)
    fused: float = Field(ge=0, le=1)
    value_bytes: int = Field(ge=1)
    process_mb: float = Field(ge=0)
    build_factor: float = Field(ge=0)
    build_base_mb: float = Field(ge=0)
    tactic_factor: float = Field(ge=0)
    fitted: tuple[str, ...] = ()
    note: str = ""


@cache
def _file() -> Mapping[str, Any]:
    text = resources.files("edgevlm.runtime.device.plan").joinpath("engines.toml")
    found: Mapping[str, Any] = tomllib.loads(text.read_text("utf-8"))
    return found


def engine(name: str) -> Engine:
    """An engine of the table: ``trt`` or ``ort-cpu``."""
    return Engine.model_validate(_file()[name])


def engine_of(device: Device) -> Engine:
    """The engine that a bundle runs on there: TensorRT on GPUs, ONNX Runtime on CPUs."""
    return engine("trt" if device.kind == "gpu" else "ort-cpu")
