"""Quantise a decoder with an eye on a text that runs through it, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.calibrate.gptq import Importance, importance, quantize
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK, QuantBlocks
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.tensors import Float32

CHUNK = 512  # tokens of one context


class CalibratedSource:
    """Weights of which some are quantised already.

    Args:
        source: the checkpoint.
        blocks: quantised matrices by canonical name, ``.weight`` included.
    """

    def __init__(self, source: WeightSource, blocks: dict[str, QuantBlocks]) -> None:
        self._source = source
        self._blocks = blocks

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        return self._source.has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape."""
        return self._source.shape(name)

    def get(self, name: str) -> Float32:
        """The weight as float32, as it was."""
        return self._source.get(name)

    def blocks(self, name: str) -> QuantBlocks | None:
        """The quantised matrix."""
        return self._blocks.get(name) or self._source.blocks(name)


def calibrate(
    spec: DecoderSpec,
    source: WeightSource,
    plan: PrecisionPlan,
    token_ids: Sequence[int],
    layer_done: Callable[[str], None] = lambda _what: None,
) -> dict[str, QuantBlocks]:
    """Quantise every matrix that ``plan`` gives four bits and that is not in blocks already.

    Args:
        spec: shape of the decoder.
        source: the checkpoint.
        plan: precisions.
        token_ids: the calibration text.
        layer_done: told after every layer.

    Returns:
        the matrices by canonical name, ``.weight`` included.
    """
    decoder = _Watching(spec, source, plan)
    chunks = [list(token_ids[n : n + CHUNK]) for n in range(0, len(token_ids), CHUNK)]
    streams = [decoder.embed(chunk) for chunk in chunks]
    blocks: dict[str, QuantBlocks] = {}
    for layer in range(spec.num_layers):
        for n, rows in enumerate(streams):
            decoder.reset()
            streams[n] = decoder.layer(layer, rows)
        blocks |= decoder.quantized()
        layer_done(f"calibrating layer {layer + 1}/{spec.num_layers}")
    return blocks


class _Watching(NumpyDecoder):
    """A float decoder that adds up the products of each matrix's inputs."""

    def __init__(self, spec: DecoderSpec, source: WeightSource, plan: PrecisionPlan) -> None:
        super().__init__(spec, source)
        self._plan = plan
        self._products: dict[str, Float32] = {}  # by the first matrix over the same inputs
        self._same: dict[str, str] = {}  # matrix -> that first one
        self._last: tuple[Float32, str] | None = None

    def _linear(self, x: Float32, name: str, bias: bool = False) -> Float32:
        if self._takes(name):
            if self._last is None or self._last[0] is not x:
                products = x.T @ x
                self._products[name] = self._products.get(name, 0) + products
                self._last = (x, name)
            self._same[name] = self._last[1]
        return super()._linear(x, name, bias)

    def _takes(self, name: str) -> bool:
        weight = f"{name}.weight"
        return (
            self._plan.of(name) == "int4"
            and self._source.shape(weight)[1] % BLOCK == 0
            and self._source.blocks(weight) is None
        )

    def quantized(self) -> dict[str, QuantBlocks]:
        """The matrices seen since the last call, whose weights and inputs are then forgotten."""
        seen: dict[str, Importance] = {n: importance(p) for n, p in self._products.items()}
        found = {
            f"{name}.weight": quantize(
                self._weight(f"{name}.weight"), seen[first], symmetric=self._plan.symmetric
            )
            for name, first in self._same.items()
        }
        self._products, self._same, self._last = {}, {}, None
        for name in [n for n in self._kept if n.startswith("layers.")]:
            del self._kept[name]
        return found
