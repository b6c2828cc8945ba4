"""What every part of a decoder graph is written with."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import WeightEntry
from edgevlm.export.decoder.linear import LinearWriter
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import MS, GraphBuilder
from edgevlm.export.precision import PrecisionPlan


class Linears(Protocol):
    """Writes linear layers into one graph."""

    entries: dict[str, WeightEntry]
    exceptions: dict[str, str]

    def linear(
        self, x: str, names: list[str], place: str, *, bias: bool = False, rows_first: bool = False
    ) -> str:
        """``x @ concat(weights).T (+ bias)``, as ``LinearWriter``'s."""
        ...


class DecoderWriter:
    """A decoder graph being written: its shape, its weights, and the nodes that recur.

    Args:
        spec: shape of the model.
        source: the checkpoint.
        plan: precisions.
        graph: the graph being built.
        linears: writes the linear layers; the default writes ONNX Runtime's operators.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        source: WeightSource,
        plan: PrecisionPlan,
        graph: GraphBuilder,
        linears: Linears | None = None,
    ) -> None:
        self.spec = spec
        self.source = source
        self.graph = graph
        self.plan = plan
        self.dtype = plan.float_dtype
        self.linears: Linears = linears or LinearWriter(graph, source, plan)

    def norm_weight(self, name: str) -> str:
        """Place the weight of a norm and give its name."""
        self.graph.weight(name, self.source.get(f"{name}.weight").astype(self.dtype))
        return name

    def norm(self, x: str, weight: str, place: str) -> str:
        """RMSNorm over the last axis."""
        return self.graph.node(
            "SimplifiedLayerNormalization",
            [x, weight],
            place,
            axis=-1,
            epsilon=self.spec.norm_eps,
            stash_type=1,
        )

    def skip_norm(self, residual: str, skip: str, name: str, place: str) -> tuple[str, str]:
        """RMSNorm of ``residual + skip``; returns the normed value and the sum."""
        weight = self.norm_weight(name)
        if not skip:
            return self.norm(residual, weight, place), residual
        op = f"/{place}/SkipSimplifiedLayerNormalization"
        outputs = [f"{op}/output_0", "", "", f"{op}/output_3"]
        self.graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, skip, weight],
            place,
            outputs=outputs,
            domain=MS,
            epsilon=self.spec.norm_eps,
        )
        return outputs[0], outputs[3]

    def scalar(self, value: float) -> str:
        """A number in the graph's float type."""
        return scalar(self.graph, value, self.dtype)

    def softcap(self, x: str, cap: float, place: str) -> str:
        """``cap * tanh(x / cap)``."""
        return softcap(self.graph, x, self.scalar(cap), place)


def scalar(g: GraphBuilder, value: float, dtype: str) -> str:
    """A number as a constant."""
    return g.constant(f"scalar.{value!r}", np.array(value, dtype))


def softcap(g: GraphBuilder, x: str, cap: str, place: str) -> str:
    """``cap * tanh(x / cap)``.

    Source: Gemma 2 (Gemma Team, 2024), section 2, "Logit soft-capping".
    """
    bent = g.node("Tanh", [g.node("Div", [x, cap], place)], place)
    return g.node("Mul", [bent, cap], place)
