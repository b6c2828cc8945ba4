"""Time of one call from operations, bytes and a device's limits. Pure functions, units in names.

Each class of operators takes as long as its arithmetic or its memory traffic, whichever is longer;
classes follow each other, and every operator adds a launch.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgevlm.bundle.manifest import Precision
from edgevlm.cost import GraphCost
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.runtime.device.plan.engines import Engine

REFERENCE_TFLOPS = 10.0  # of the device that half_rows is told for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one device gives one engine in one precision.

    Args:
        matmul_tflops: of large products.
        vector_tflops: of products of few rows, which fill no matrix unit.
        half_rows: rows at which a product reaches half of ``matmul_tflops``.
        attention_tflops: of products between activations.
        convolution_tflops: of convolutions.
        weights_gb_s: how fast weights are read.
        values_gb_s: how fast activations are.
        launch_us: of one operator.
    """

    matmul_tflops: float
    vector_tflops: float
    half_rows: float
    attention_tflops: float
    convolution_tflops: float
    weights_gb_s: float
    values_gb_s: float
    launch_us: float


def rates(device: Device, engine: Engine, precision: Precision, speedup: float = 1.0) -> Rates:
    """Limits of a device under an engine.

    Args:
        device: from the table, or measured.
        engine: that runs there.
        precision: of the weights; GPUs compute in float16, or in TF32 for fp32, CPUs as measured.
        speedup: of matrix units over float16, where activations are 8-bit or 4-bit too.
    """
    tensor = device.tensor_tflops
    peak = device.vector_tflops
    if tensor is not None:  # float32 runs as TF32 there, at half the rate of float16
        peak = tensor / 2 if precision == "fp32" else tensor * speedup
    matmul = device.measured_tflops.get(precision, peak * engine.matmul)
    product = device.measured_tflops.get("fp32", peak)  # attention stays float
    weights = device.measured_gb_s.get(precision, device.bandwidth_gb_s * engine.bandwidth)
    return Rates(
        matmul_tflops=matmul,
        vector_tflops=matmul if tensor is None else device.vector_tflops * engine.matmul,
        half_rows=engine.half_rows * math.sqrt(peak / REFERENCE_TFLOPS) if tensor else 0.0,
        attention_tflops=product * engine.attention,
        convolution_tflops=product * engine.convolution,
        weights_gb_s=weights,
        values_gb_s=device.bandwidth_gb_s * engine.bandwidth,
        launch_us=engine.launch_us,
    )


def rate_at(rows: float, limits: Rates) -> float:
    """TFLOPS of a product of so many rows: matrix units fill slowly, vector units at once."""
    filled = rows / (rows + limits.half_rows) if rows else 1.0
    return max(limits.matmul_tflops * filled, limits.vector_tflops)


def call_ms(
    cost: GraphCost,
    precision: Precision,
    limits: Rates,
    engine: Engine,
    *,
    count: float,
    rows: float,
    past: float = 0.0,
) -> float:
    """Milliseconds of one call.

    Args:
        cost: the graph.
        precision: of its weights.
        limits: of the device.
        engine: that runs there.
        count: tiles, patches, rows or tokens of the call.
        rows: of its matrix products: tokens that go through a layer together.
        past: tokens already in the cache.
    """
    seconds = cost.nodes * limits.launch_us * 1e-6
    for kind, work in cost.work.items():
        flops, values = work.flops.at(count, past), work.values.at(count, past)
        weights = 0.0
        if kind == "matmul":
            tflops = rate_at(rows, limits)
            weights = cost.weights.total[precision] / (limits.weights_gb_s * 1e9)
        elif kind == "attention":
            tflops = max(limits.attention_tflops, limits.vector_tflops * engine.attention)
        elif kind == "convolution":
            tflops = limits.convolution_tflops
        else:
            tflops = limits.vector_tflops
        moved = values * engine.value_bytes * (1.0 - engine.fused) / (limits.values_gb_s * 1e9)
        if kind == "attention" and past:  # a cache is read, whatever is fused
            moved = values * engine.value_bytes / (limits.values_gb_s * 1e9)
        seconds += max(flops / (tflops * 1e12), weights + moved)
    return 1e3 * seconds
