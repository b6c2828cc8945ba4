"""Bytes of weights in each precision, from their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from edgevlm.bundle.manifest import Precision
from edgevlm.cost.sheet import PRECISIONS, Weights
from edgevlm.export.cost.counter import Matrix
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK

PLAIN = PrecisionPlan(default="fp32")  # asymmetric int4 in blocks of 32, as export has it
BYTES: Mapping[Precision, float] = {p: PLAIN.bytes_each(p) for p in PRECISIONS}
# Where the exporter keeps 8 bits in an int4 decoder (``INT4_EXCEPTIONS`` of staging and seq2seq),
# by the places that those weights have in our graphs.
KEPT_INT8 = (
    "*.attn.q", "*.attn.k", "*.attn.v", "*.attn.qk", "*.attn.kv", "*.attn.qkv", "embed_tokens",
    "lm_head", "*encoder_attn.*[qkv]", "shared",
)  # fmt: skip


def matrix_bytes(matrix: Matrix, precision: Precision, *, decoder: bool) -> int:
    """What one weight takes.

    Args:
        matrix: the weight.
        precision: of the bundle.
        decoder: encoders have no 4 bits.
    """
    if matrix.kind == "convolution":
        return matrix.elements * 4
    chosen = precision
    kept = not decoder or any(fnmatchcase(matrix.name, pattern) for pattern in KEPT_INT8)
    if precision == "int4" and kept:
        chosen = "int8"
    if chosen in ("int8", "int4") and matrix.inner % BLOCK:
        chosen = "fp32"
    return round(matrix.elements * BYTES[chosen])


def weights(matrices: Iterable[Matrix], others: int, *, decoder: bool) -> Weights:
    """All weights of a graph.

    Args:
        matrices: of its products.
        others: numbers in norms, biases and tables, which stay float (half in fp16 decoders).
        decoder: encoders have no 4 bits and keep float32 beside their matrices.
    """
    known = list(matrices)
    largest = max(known, key=lambda m: m.elements, default=Matrix("", 0, BLOCK, "matmul"))

    def total(precision: Precision) -> int:
        beside = others * (2 if precision == "fp16" and decoder else 4)
        return beside + sum(matrix_bytes(m, precision, decoder=decoder) for m in known)

    inner = max(largest.inner, 1)
    return Weights(
        total={p: total(p) for p in PRECISIONS},
        largest={p: matrix_bytes(largest, p, decoder=decoder) for p in PRECISIONS},
        name=largest.name,
        shape=(largest.elements // inner, inner),
        count=others + sum(m.elements for m in known),
    )


def table_bytes(elements: int, width: int) -> dict[Precision, int]:
    """An embedding table of its own: 8-bit blocks in quantised bundles, floats else."""
    quantized = BYTES["int8"] if width % BLOCK == 0 else 4.0
    per_number = {"fp32": 4.0, "fp16": 2.0, "int8": quantized, "int4": quantized}
    return {p: round(elements * per_number[p]) for p in PRECISIONS}
