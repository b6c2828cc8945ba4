"""Quantise a decoder with an eye on a text that runs through it, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.calibrate.effort import strips
from edgevlm.export.calibrate.gptq import Importance, importance, join_columns, quantize
from edgevlm.export.calibrate.spill import Spill, SpilledBlocks
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK, QuantBlocks
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.tensors import Float32

CHUNK = 512  # tokens of one context
BESIDE = 8  # tokens before a picture, and behind it


class CalibratedSource:
    """Weights of which some are quantised already.

    Args:
        source: the checkpoint.
        packed: quantised matrices by canonical name, ``.weight`` included.
    """

    def __init__(self, source: WeightSource, packed: dict[str, SpilledBlocks]) -> None:
        self._source = source
        self._packed = packed

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
        packed = self._packed.get(name)
        return self._source.blocks(name) if packed is None else packed.unpacked()


def calibrate(
    spec: DecoderSpec,
    source: WeightSource,
    plan: PrecisionPlan,
    token_ids: Sequence[int],
    pictures: Sequence[Float32] = (),
    *,
    spill: Spill,
    layer_done: Callable[[str], None] = lambda _what: None,
) -> dict[str, SpilledBlocks]:
    """Quantise every matrix that ``plan`` gives four bits and that is not in blocks already.

    Args:
        spec: shape of the decoder.
        source: the checkpoint.
        plan: precisions.
        token_ids: the calibration text.
        pictures: rows ``(tokens, hidden_size)`` that pictures become; each is a context of its
            own, between some of the text. Their rotary positions count on as a text's do, and
            what some families add to the first layers is left out.
        spill: takes the matrices, which together are as large as the graph.
        layer_done: told after every layer.

    Returns:
        the matrices by canonical name, ``.weight`` included.
    """
    decoder = _Watching(spec, source, plan)
    chunks = [list(token_ids[n : n + CHUNK]) for n in range(0, len(token_ids), CHUNK)]
    streams = [decoder.embed(chunk) for chunk in chunks]
    for n, rows in enumerate(pictures):
        text = streams[n % len(chunks)]
        streams.append(np.concatenate([text[:BESIDE], rows, text[BESIDE : 2 * BESIDE]]))
    decoder.forget("embed_tokens.")
    packed: dict[str, SpilledBlocks] = {}
    for layer in range(spec.num_layers):
        for n, rows in enumerate(streams):
            decoder.reset()
            streams[n] = decoder.layer(layer, rows)
        packed |= {name: spill.keep(b) for name, b in decoder.quantized().items()}
        layer_done(f"calibrating layer {layer + 1}/{spec.num_layers}")
    return packed


class _Watching(NumpyDecoder):
    """A float decoder that adds up the products of each matrix's inputs."""

    def __init__(self, spec: DecoderSpec, source: WeightSource, plan: PrecisionPlan) -> None:
        super().__init__(spec, source)
        self._plan = plan
        # A strip of columns after the other, by the first matrix over the same inputs.
        self._products: dict[str, list[Float32]] = {}
        self._same: dict[str, str] = {}  # matrix -> that first one
        self._last: tuple[Float32, str] | None = None

    def _linear(self, x: Float32, name: str, bias: bool = False) -> Float32:
        if self._takes(name):
            if self._last is None or self._last[0] is not x:
                cut = [x[:, a:b] for a, b in strips(x.shape[1])]
                products = [strip.T @ strip for strip in cut]
                for total, more in zip(self._products.get(name, ()), products, strict=False):
                    more += total
                self._products[name] = products
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

    def forget(self, start: str) -> None:
        """Let go of the weights whose names begin so."""
        for name in [n for n in self._kept if n.startswith(start)]:
            del self._kept[name]

    def quantized(self) -> dict[str, QuantBlocks]:
        """The matrices seen since the last call, whose weights and inputs are then forgotten."""
        seen = {n: [importance(p) for p in products] for n, products in self._products.items()}
        found = {
            f"{name}.weight": self._quantized(self._weight(f"{name}.weight"), seen[first])
            for name, first in self._same.items()
        }
        self._products, self._same, self._last = {}, {}, None
        self.forget("layers.")
        return found

    def _quantized(self, matrix: Float32, seen: list[Importance]) -> QuantBlocks:
        plan, width = self._plan, matrix.shape[1]
        block = plan.block("int4", width)
        parts = [
            quantize(matrix[:, a:b], one, symmetric=plan.symmetric, block=block)
            for (a, b), one in zip(strips(width), seen, strict=True)
        ]
        return parts[0] if len(parts) == 1 else join_columns(parts)
