"""The schema of a cost sheet: floating-point operations, bytes and rows, as formulas of sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from edgevlm.bundle.images import ImageSpec, Strict
from edgevlm.bundle.manifest import Precision

OpClass = Literal["matmul", "attention", "convolution", "elementwise"]
Unit = Literal["tiles", "patches", "rows", "tokens"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")


class Poly(Strict):
    """``constant + linear n + quadratic n^2 + past p + cross n p``.

    ``n`` is what one call takes (tiles, patches, rows or tokens), ``p`` the tokens that are already
    in the cache.
    """

    constant: float = 0.0
    linear: float = 0.0
    quadratic: float = 0.0
    past: float = 0.0
    cross: float = 0.0

    def at(self, count: float, past: float = 0.0) -> float:
        """The value for one call."""
        own = self.constant + self.linear * count + self.quadratic * count * count
        return own + self.past * past + self.cross * count * past

    def times(self, factor: float) -> Poly:
        """Every coefficient multiplied."""
        return Poly(**{name: factor * value for name, value in self.model_dump().items()})


class Work(Strict):
    """What the operators of one class do in one call.

    Args:
        flops: floating-point operations, a multiplication and an addition counted as two.
        values: numbers read and written besides weights.
        nodes: operators that compute or copy.
    """

    flops: Poly = Poly()
    values: Poly = Poly()
    nodes: int = 0


class Weights(Strict):
    """Bytes of a graph's weights in each precision, scales and exceptions included.

    Args:
        total: of all weights; all of them are read in every call.
        largest: of the largest one.
        name: of the largest one.
        shape: of the largest one.
        count: numbers in all weights.
    """

    total: Mapping[Precision, int]
    largest: Mapping[Precision, int]
    name: str = ""
    shape: tuple[int, ...] = ()
    count: int = Field(default=0, ge=0)


class GraphCost(Strict):
    """One graph.

    Args:
        unit: what ``n`` counts.
        work: by class of operators.
        weights: of the graph.
        peak_values: numbers alive at once between operators, weights and cache not counted.
        fused_peak_values: the same where attention keeps no scores.
    """

    unit: Unit
    work: Mapping[OpClass, Work]
    weights: Weights
    peak_values: Poly = Poly()
    fused_peak_values: Poly = Poly()

    def flops(self, count: float, past: float = 0.0) -> float:
        """Of all classes together, in one call."""
        return sum(work.flops.at(count, past) for work in self.work.values())

    @property
    def nodes(self) -> int:
        """Operators that compute or copy."""
        return sum(work.nodes for work in self.work.values())


class PictureSetting(Strict):
    """One way to encode a picture.

    Args:
        image_size: as in ``--image-size``; None is the model's own.
        tokens: as in ``--tokens``; None is the model's own.
        image: from which the runtime says how many tiles or patches a frame becomes.
        rows_per_tile: visual tokens of one tile; 0 where they follow the picture's size.
        vision: the encoder.
    """

    image_size: int | None = None
    tokens: int | None = None
    image: ImageSpec
    rows_per_tile: int = 0
    vision: GraphCost


class CostSheet(Strict):
    """One model.

    Args:
        name: shown to people.
        family: as in the registry.
        stored: precision of a bundle; None for a checkpoint.
        parameters: weights in all graphs and the embedding table.
        settings: how pictures can be encoded; empty for text models.
        encoder: of an encoder-decoder model.
        decoder: None for encoders.
        embedding: bytes of the embedding table that are not also the head's.
        kv_values_per_token: numbers that one token leaves in the cache.
        state_values: numbers that the cache holds whatever its length.
        capacity: tokens of a bundle's cache; None where it can still be chosen.
        max_context: tokens that the model has positions for.
    """

    name: str
    family: str
    stored: Precision | None = None
    parameters: int = Field(ge=0)
    settings: tuple[PictureSetting, ...] = ()
    encoder: GraphCost | None = None
    decoder: GraphCost | None = None
    embedding: Mapping[Precision, int] = Field(default_factory=dict)
    kv_values_per_token: int = 0
    state_values: int = 0
    capacity: int | None = None
    max_context: int = 0
