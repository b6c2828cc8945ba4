"""Which precision each weight of a model gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from edgevlm.bundle.manifest import Precision
from edgevlm.export.quantize import BLOCK
from edgevlm.export.repair.comparison import Comparison

ACCURACY_INT8 = 4  # int8 activations: the only fast CPU path of MatMulNBits


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPlan:
    """Which precision each weight gets.

    Args:
        default: of every linear layer.
        symmetric: int4 without zero points.
        overrides: glob pattern over canonical names -> precision; the first match wins.
        accuracy_level: of MatMulNBits; 4 computes with int8 activations, 0 and 1 in float.
        group: values of a row that share a scale, in 4 bits, 32 times a power of two; 8 bits
            have 32.
        wide: fp16 is for matrices alone: norms, softmax, the residual stream and the cache are in
            float32.
        comparison: the graph is written to measure how far each of its layers drifts.
    """

    default: Precision
    symmetric: bool = False
    overrides: dict[str, Precision] = field(default_factory=dict)
    accuracy_level: int = ACCURACY_INT8
    group: int = BLOCK
    wide: bool = False
    comparison: Comparison | None = None

    def of(self, name: str) -> Precision:
        """The precision of one weight, by its canonical name."""
        for pattern, precision in self.overrides.items():
            if fnmatchcase(name, pattern):
                return precision
        return self.default

    def block(self, precision: Precision, width: int) -> int:
        """Values that share a scale, in rows of ``width``: the group, or what divides them."""
        group = self.group if precision == "int4" else BLOCK
        while group > BLOCK and width % group:
            group //= 2
        return group

    def bytes_each(self, precision: Precision) -> float:
        """Bytes that one value of a matrix takes, its share of scales and zero points included."""
        if precision in ("fp32", "fp16"):
            return 4.0 if precision == "fp32" else 2.0
        if precision == "int8":
            return 1 + 4 / BLOCK
        return 0.5 + (4.0 if self.symmetric else 4.5) / self.group

    @property
    def float_dtype(self) -> str:
        """Dtype of activations and norms."""
        return "float16" if self.default == "fp16" and not self.wide else "float32"

    @property
    def table_dtype(self) -> str:
        """Dtype of an embedding table in floats."""
        return "float16" if self.default == "fp16" else "float32"
