"""Costs of transformers from their dimensions alone, where there is no graph to count.

Source: the usual count of a multiplication and an addition as two operations, as in Kaplan et al.,
"Scaling laws for neural language models", 2020, section 2.1, with attention to what is seen only.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from edgevlm.bundle.images import Strict
from edgevlm.bundle.manifest import Precision
from edgevlm.cost.sheet import GraphCost, OpClass, Poly, Weights, Work

GROUP = 128  # AWQ's: one float16 scale for so many 4-bit weights
BYTES: Mapping[Precision, float] = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5 + 2 / GROUP}
# Kernels a layer, where norms, biases, activations and attention are fused.
DECODER_NODES, ENCODER_NODES = 9, 8


class DecoderShape(Strict):
    """A decoder with gated MLPs.

    Args:
        attention_layers: those that keep keys and values; None is all.
        other_mixing: weights of each other layer in place of attention.
        query_gate: the query projection also gives a gate of the same width.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    inner: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    vocab: int = Field(ge=1)
    tied: bool = True
    attention_layers: int | None = None
    other_mixing: int = 0
    query_gate: bool = False

    @property
    def attending(self) -> int:
        """Layers that attend."""
        return self.layers if self.attention_layers is None else self.attention_layers

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers, the head not included."""
        queries = self.heads * self.head_dim
        own = self.hidden * (queries * (3 if self.query_gate else 2))
        own += 2 * self.hidden * self.kv_heads * self.head_dim
        mixing = self.attending * own + (self.layers - self.attending) * self.other_mixing
        return mixing + self.layers * 3 * self.hidden * self.inner

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token leaves in the cache."""
        return 2 * self.attending * self.kv_heads * self.head_dim


class EncoderShape(Strict):
    """A vision transformer over patches.

    Args:
        extra: tokens besides the patches (a class token, registers).
        merge: patches along a side of what becomes one row; 1 for none.
        outputs: width of what the connector gives; 0 for none.
        levels: further connectors of the same kind (deepstack).
        gated: MLPs of three matrices.
        channels: of a patch's pixel; 6 where two frames are read at once.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    inner: int = Field(ge=1)
    patch: int = Field(ge=1)
    heads: int = Field(default=12, ge=1)
    extra: int = 0
    merge: int = 1
    outputs: int = 0
    levels: int = 0
    gated: bool = False
    channels: int = 3

    @property
    def block_weights(self) -> int:
        """Numbers in the matrices of one block."""
        return 4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.inner

    @property
    def connector_weights(self) -> int:
        """Numbers in the matrices of all connectors: two layers over ``merge ** 2`` patches."""
        wide = self.hidden * self.merge**2
        return (1 + self.levels) * wide * (wide + self.outputs) if self.outputs else 0


def decoder_cost(shape: DecoderShape) -> GraphCost:
    """A decoder whose layers may be quantised and whose head stays in float16 at most."""
    layers, head = shape.layer_weights, shape.vocab * shape.hidden
    seen = 4.0 * shape.attending * shape.heads * shape.head_dim
    kv = shape.kv_values_per_token
    moved = shape.layers * (8 * shape.hidden + 3 * shape.inner)
    work: Mapping[OpClass, Work] = {
        "matmul": Work(
            flops=Poly(constant=2.0 * head, linear=2.0 * layers),
            values=Poly(linear=moved),
            nodes=4 * shape.layers + 1,
        ),
        "attention": Work(
            flops=Poly(linear=seen / 2, quadratic=seen / 2, cross=seen),
            values=Poly(linear=kv, past=kv),
            nodes=shape.layers,
        ),
        "elementwise": Work(
            flops=Poly(linear=moved),
            values=Poly(linear=shape.layers * 4 * shape.hidden),
            nodes=(DECODER_NODES - 5) * shape.layers,
        ),
    }
    return GraphCost(
        unit="tokens",
        work=work,
        weights=Weights(
            total={p: round(layers * s + head * max(s, 2.0)) for p, s in BYTES.items()},
            largest={p: round(head * max(s, 2.0)) for p, s in BYTES.items()},
            name="lm_head",
            shape=(shape.vocab, shape.hidden),
            count=layers + head,
        ),
        fused_peak_values=Poly(constant=shape.vocab, linear=2 * shape.hidden + 3 * shape.inner),
    )


def encoder_cost(shape: EncoderShape) -> GraphCost:
    """A vision transformer in patches; its attention scores are not kept between kernels."""
    rows = Poly(constant=shape.extra, linear=1.0)
    block, pixel = shape.block_weights, shape.channels * shape.patch**2 * shape.hidden
    connector = shape.connector_weights / shape.merge**2  # for each patch
    seen = 4.0 * shape.layers * shape.hidden
    extra = float(shape.extra)
    work: Mapping[OpClass, Work] = {
        "matmul": Work(
            flops=Poly(
                constant=2.0 * shape.layers * block * extra,
                linear=2.0 * (shape.layers * block + pixel + connector),
            ),
            values=rows.times(shape.layers * (6 * shape.hidden + 2 * shape.inner)),
            nodes=4 * shape.layers + 1 + 2 * (1 + shape.levels) * bool(shape.outputs),
        ),
        "attention": Work(
            flops=Poly(constant=seen * extra**2, linear=2 * seen * extra, quadratic=seen),
            values=rows.times(4 * shape.layers * shape.hidden),
            nodes=shape.layers,
        ),
        "elementwise": Work(
            flops=rows.times(shape.layers * (6 * shape.hidden + shape.inner)),
            values=rows.times(4 * shape.layers * shape.hidden),
            nodes=(ENCODER_NODES - 5) * shape.layers,
        ),
    }
    count = shape.layers * block + pixel + shape.connector_weights
    widest = max(shape.hidden * shape.inner, shape.hidden**2 * shape.merge**4 * bool(shape.outputs))
    return GraphCost(
        unit="patches",
        work=work,
        weights=Weights(
            total={p: round(count * max(s, 1.0)) for p, s in BYTES.items()},
            largest={p: round(widest * max(s, 1.0)) for p, s in BYTES.items()},
            name="connector" if shape.outputs else "mlp",
            count=count,
        ),
        fused_peak_values=rows.times(2 * shape.hidden + shape.inner),
    )
