"""Quantise a decoder while a text runs through it, layer by layer.

Every matrix is quantised the first time it is multiplied with, from exactly the inputs that reach
it through the layers already quantised before it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.calibrate.gptq import inverse_root, quantize
from edgevlm.export.decoder.linear import PrecisionPlan
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.quantize import BLOCK, QuantBlocks
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.tensors import Array, Float32

TOKENS = 1024  # of text; more changes little


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
    rows: Callable[[NumpyDecoder], Float32],
    layer_done: Callable[[str], None] = lambda _what: None,
) -> CalibratedSource:
    """Quantise every matrix that ``plan`` gives four bits.

    Args:
        spec: shape of the decoder.
        source: the checkpoint.
        plan: precisions.
        rows: makes the calibration input, float32 ``(tokens, hidden_size)``, from the decoder's
            embedding.
        layer_done: told after every layer.
    """
    decoder = _Calibrating(spec, source, plan, layer_done)
    decoder.forward(rows(decoder))
    return CalibratedSource(source, decoder.blocks)


class _Calibrating(NumpyDecoder):
    """A float decoder that replaces each matrix by its quantised self on first use."""

    def __init__(
        self,
        spec: DecoderSpec,
        source: WeightSource,
        plan: PrecisionPlan,
        layer_done: Callable[[str], None],
    ) -> None:
        super().__init__(spec, source)
        self.blocks: dict[str, QuantBlocks] = {}
        self._plan = plan
        self._layer_done = layer_done
        self._last: tuple[Float32, Array] | None = None  # inputs, and what was made of them

    def _linear(self, x: Float32, name: str, bias: bool = False) -> Float32:
        if name in ("embed_tokens", "lm_head"):  # nobody asks for logits here
            return np.zeros((0, self._spec.vocab_size), np.float32)
        weight = f"{name}.weight"
        whole = self._source.shape(weight)[1] % BLOCK == 0
        if self._plan.of(name) == "int4" and whole and self._source.blocks(weight) is None:
            found = quantize(
                self._weight(weight), self._root(x), symmetric=self._plan.symmetric
            )
            self.blocks[weight] = found
            self._kept[weight] = found.dequantize()
        y = super()._linear(x, name, bias)
        if name.endswith(".mlp.down_proj"):
            self._forget_layer(name.removesuffix("mlp.down_proj"))
        return y

    def _root(self, x: Float32) -> Array:
        """Query, key and value see the same inputs, and so do gate and up."""
        if self._last is None or self._last[0] is not x:
            self._last = (x, inverse_root(x))
        return self._last[1]

    def _forget_layer(self, prefix: str) -> None:
        for name in [n for n in self._kept if n.startswith(prefix)]:
            del self._kept[name]
        self._layer_done(prefix.rstrip("."))
