"""A cache of fixed length, and what the lowerings write differently around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.export.decoder.writing import scalar, softcap
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.targets.typed import TypedProducts

CacheShape: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCache:
    """What attention over the cache must know.

    Args:
        spec: shape of the decoder.
        graph: the graph being built.
        products: casts, and the products of attention.
        capacity: tokens that the cache holds.
        kind: ONNX's number of the cache's element type.
    """

    spec: DecoderSpec
    graph: GraphBuilder
    products: TypedProducts
    capacity: int
    kind: int

    def window(self, layer: int) -> int | None:
        """Positions that the layer sees, or None for all of them."""
        slides = self.spec.slides(layer) and not self.spec.prefix_attention
        return self.spec.sliding_window if slides else None

    def scalar(self, value: float) -> str:
        """A float32 number as a constant."""
        return scalar(self.graph, value, "float32")

    def softcap(self, x: str, cap: float, place: str) -> str:
        """``cap * tanh(x / cap)``."""
        return softcap(self.graph, x, self.scalar(cap), place)


class StaticOps(Protocol):
    """What the two lowerings write differently."""

    lowering: StaticLowering

    def norm(self, c: StaticCache, x: str, weight: str, place: str) -> str:
        """RMSNorm over the last axis."""
        ...

    def rotate(self, c: StaticCache, x: str, tables: tuple[str, str], place: str) -> str:
        """Rotate ``(1, heads, tokens, head_dim)`` by this call's positions."""
        ...

    def declare_cache(self, c: StaticCache, layer: int, shape: CacheShape) -> None:
        """Inputs and outputs of one layer's keys and values."""
        ...

    def attend(self, c: StaticCache, layer: int, q: str, k: str, v: str) -> str:
        """Attention of ``(1, heads, tokens, head_dim)``, q scaled; the same shape, float32."""
        ...
