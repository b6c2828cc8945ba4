"""What others published, against what the planner says of the same: the error of each."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter

from edgevlm.bundle.images import Strict
from edgevlm.bundle.manifest import Precision
from edgevlm.cost import GraphCost, Poly, Weights, Work
from edgevlm.cost.shapes import (
    BYTES,
    DecoderShape,
    EncoderShape,
    decoder_cost,
    encoder_cost,
)
from edgevlm.runtime.device.plan.devices import find
from edgevlm.runtime.device.plan.engines import Engine, engine
from edgevlm.runtime.device.plan.memory import footprint_mb
from edgevlm.runtime.device.plan.roofline import call_ms, rates

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Metric = Literal[
    "encode_ms", "frames_per_s", "prefill_ms", "prefill_tokens_per_s", "decode_tokens_per_s",
    "memory_mb",
]  # fmt: skip
METRICS: tuple[Metric, ...] = get_args(Metric)
OWN = "TensorRT"  # the engine that the efficiencies are of
CACHE_TOKENS = 1024  # of a published figure that does not say


class Convolutions(Strict):
    """A convolutional network by its published count of operations."""

    gflop: float = Field(gt=0)
    layers: int = Field(ge=1)
    million_weights: float = Field(gt=0)


class Shapes(Strict):
    """The parts of one published model."""

    decoder: DecoderShape | None = None
    encoder: EncoderShape | None = None
    convolution: Convolutions | None = None


class Row(Strict):
    """One published measurement.

    Args:
        speedup: the matrix units compute in this type, not in float16.
        visual: rows that a picture becomes, merged ones.
        prompt: tokens that were prefilled.
        fit: the efficiencies were fitted on it.
    """

    model: str
    device: str
    precision: Precision
    speedup: Literal["int8", "fp4"] | None = None
    visual: int = 0
    prompt: int = 0
    engine: str = OWN
    fit: bool = False
    source: str
    published: Mapping[Metric, float]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """One figure, and how far the prediction is from it; ``error`` is relative, with its sign."""

    row: Row
    metric: Metric
    published: float
    predicted: float

    @property
    def error(self) -> float:
        """Of a time, a rate or a size: predicted over published, less one."""
        return self.predicted / self.published - 1.0


@cache
def _file() -> Mapping[str, Any]:
    text = resources.files("edgevlm.runtime.device.plan").joinpath("published.toml")
    found: Mapping[str, Any] = tomllib.loads(text.read_text("utf-8"))
    return found


def rows() -> tuple[Row, ...]:
    """Every published measurement that applies."""
    return TypeAdapter(tuple[Row, ...]).validate_python(_file()["rows"])


def sources() -> Mapping[str, str]:
    """Where the rows come from."""
    return TypeAdapter(dict[str, str]).validate_python(_file()["sources"])


def models() -> Mapping[str, Shapes]:
    """The shapes of the models in the rows."""
    return TypeAdapter(dict[str, Shapes]).validate_python(_file()["models"])


def not_compared() -> Mapping[str, str]:
    """Published figures that say too little, and why."""
    return TypeAdapter(dict[str, str]).validate_python(_file()["not_compared"])


def errors(chosen: Engine | None = None) -> list[Error]:
    """Predict every row.

    Args:
        chosen: another engine than the table's, while fitting.
    """
    own, shapes = chosen or engine("trt"), models()
    return [
        Error(
            row=row,
            metric=metric,
            published=value,
            predicted=predicted(row, metric, shapes[row.model], own),
        )
        for row in rows()
        for metric, value in row.published.items()
    ]


def predicted(row: Row, metric: Metric, shapes: Shapes, own: Engine) -> float:
    """One figure.

    Raises:
        KeyError: the model has no part that the metric is about.
    """
    device = find(row.device)
    speedup = 1.0 if row.speedup is None else float(getattr(device, row.speedup))
    limits = rates(device, own, row.precision, speedup)
    vision = vision_cost(shapes)
    if metric in ("encode_ms", "frames_per_s") and vision is not None:
        # Encoders are published in float16 beside 4-bit decoders.
        alone = shapes.decoder is None
        precision: Precision = row.precision if alone else "fp16"
        own_limits = limits if alone else rates(device, own, "fp16")
        count = row.visual * (shapes.encoder.merge**2 if shapes.encoder else 1) or 1
        extra = shapes.encoder.extra if shapes.encoder else 0
        ms = call_ms(vision, precision, own_limits, own, count=count, rows=count + extra)
        return ms if metric == "encode_ms" else 1e3 / ms
    if shapes.decoder is None:
        raise KeyError(f"{row.model} has no decoder for {metric}")
    decoder = decoder_cost(shapes.decoder)
    if metric == "memory_mb":
        return footprint_mb(
            weights=decoder.weights.total[row.precision]
            + (0 if vision is None else vision.weights.total["fp16"])
            + shapes.decoder.vocab * shapes.decoder.hidden * 2,
            cache=CACHE_TOKENS * shapes.decoder.kv_values_per_token * own.value_bytes,
            activations=0.0,
            process_mb=own.process_mb,
        )
    if metric == "decode_tokens_per_s":
        return 1e3 / call_ms(decoder, row.precision, limits, own, count=1, rows=1, past=row.prompt)
    ms = call_ms(decoder, row.precision, limits, own, count=row.prompt, rows=row.prompt)
    return ms if metric == "prefill_ms" else 1e3 * row.prompt / ms


def vision_cost(shapes: Shapes) -> GraphCost | None:
    """The encoder of a published model."""
    if shapes.encoder is not None:
        return encoder_cost(shapes.encoder)
    if shapes.convolution is None:
        return None
    count = round(shapes.convolution.million_weights * 1e6)
    total = {p: round(count * max(size, 1.0)) for p, size in BYTES.items()}
    return GraphCost(
        unit="tiles",
        work={
            "convolution": Work(
                flops=Poly(linear=shapes.convolution.gflop * 1e9), nodes=shapes.convolution.layers
            )
        },
        weights=Weights(total=total, largest=total, count=count),
    )


def median_percent(found: Iterable[Error]) -> float:
    """Median of the absolute errors, in percent; 0 of none."""
    sizes = [100.0 * abs(one.error) for one in found]
    return statistics.median(sizes) if sizes else 0.0


def groups(found: list[Error]) -> dict[str, list[Error]]:
    """The errors by what they prove: fitted, held out, engines that are not ours, and by figure."""
    held = [e for e in found if not e.row.fit]
    return {
        "all": found,
        "fitted on": [e for e in found if e.row.fit],
        "held out": held,
        "held out, TensorRT": [e for e in held if e.row.engine == OWN],
        "held out, other engines": [e for e in held if e.row.engine != OWN],
        **{f"held out, {metric}": [e for e in held if e.metric == metric] for metric in METRICS},
    }
