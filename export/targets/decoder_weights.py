"""A decoder's weights, out of a bundle and under their canonical names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import WeightEntry
from edgevlm.errors import BundleCorrupt
from edgevlm.export.quantize import QuantBlocks
from edgevlm.export.targets.stored_graph import StoredGraph
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True)
class _Place:
    """Rows of a stored matrix."""

    label: str
    start: int
    stop: int


class BundleWeights:
    """A ``WeightSource`` over what ``ort-gqa`` stored.

    Matrices lie where the manifest says, some of them stacked (query, key and value; gate and up);
    norms, biases and convolutions are weights of the stored graph.

    Args:
        bundle: of a decoder-only model that this exporter wrote.
        spec: shape of its decoder.

    Raises:
        BundleCorrupt: its decoder is no ONNX graph.
    """

    def __init__(self, bundle: Bundle, spec: DecoderSpec) -> None:
        self._bundle = bundle
        self._graph = StoredGraph(bundle, bundle.manifest.graphs["decoder"])
        self._taps = spec.conv_kernel or 0
        self._places = {
            name: place
            for label in bundle.manifest.weights
            for name, place in _rows_of(label, spec).items()
        }

    def has(self, name: str) -> bool:
        """True if the bundle holds this weight."""
        matrix, _, kind = name.rpartition(".")
        if kind == "weight" and matrix in self._places:
            return True
        return self._graph.has(name.removesuffix(".weight"))

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape.

        Raises:
            BundleCorrupt: it is missing.
        """
        place = self._places.get(name.removesuffix(".weight"))
        if place is None:
            return self.get(name).shape
        entry = self._entry(place)
        stored = entry.values.shape
        width = stored[0] if entry.layout == "transposed" else stored[1]
        if entry.layout == "blocks":
            width *= entry.block_size or 0
        return place.stop - place.start, width

    def get(self, name: str) -> Float32:
        """The weight as float32; a quantised one is unpacked.

        Raises:
            BundleCorrupt: it is missing.
        """
        matrix, _, kind = name.rpartition(".")
        place = self._places.get(matrix)
        if place is None:
            return self._small(name)
        if kind == "bias":
            whole = self._graph.array(f"{place.label}.bias")
            return np.asarray(whole[place.start : place.stop], np.float32)
        blocks = self.blocks(name)
        if blocks is not None:
            return blocks.dequantize()
        entry = self._entry(place)
        stored = self._bundle.array(entry.values)
        rows = stored.T if entry.layout == "transposed" else stored
        return np.asarray(rows[place.start : place.stop], np.float32)

    def _small(self, name: str) -> Float32:
        if name.endswith(".conv.conv.weight"):
            taps = [self._graph.array(f"{name}.{tap}") for tap in range(self._taps)]
            return np.stack(taps, axis=-1).astype(np.float32)[:, None]
        return np.asarray(self._graph.array(name.removesuffix(".weight")), np.float32)

    def blocks(self, name: str) -> QuantBlocks | None:
        """The weight as stored, if it is quantised."""
        place = self._places.get(name.removesuffix(".weight"))
        entry = None if place is None else self._entry(place)
        if place is None or entry is None or entry.layout != "blocks" or entry.scales is None:
            return None
        if entry.bits is None or entry.block_size is None:
            raise BundleCorrupt(f"{self._bundle.root}: {place.label} has blocks of no size")
        rows = slice(place.start, place.stop)
        zeros = None if entry.zeros is None else self._bundle.array(entry.zeros)[rows]
        values = self._bundle.array(entry.values)[rows]
        scales = self._bundle.array(entry.scales)[rows]
        return QuantBlocks.unpacked(entry.bits, entry.block_size, values, scales, zeros)

    def _entry(self, place: _Place) -> WeightEntry:
        return self._bundle.manifest.weights[place.label]


def _rows_of(label: str, spec: DecoderSpec) -> dict[str, _Place]:
    """Which matrices lie under a label of ``ort-gqa``, and in which of its rows."""
    if label in ("embed_tokens", "lm_head"):
        return {label: _Place(label, 0, spec.vocab_size)}
    layer, _, rest = label.rpartition(".")
    base, _, part = layer.rpartition(".")
    heads = {"q": spec.q_size, "k": spec.kv_size, "v": spec.kv_size}
    inner = spec.intermediate_size
    found: list[tuple[str, int]] = []
    if part == "attn" and rest == "o":
        found = [(f"{base}.self_attn.o_proj", spec.hidden_size)]
    elif part == "attn":
        found = [(f"{base}.self_attn.{c}_proj", heads[c]) for c in rest if c in heads]
    elif part == "mlp" and rest == "gate_up":
        found = [(f"{base}.mlp.gate_proj", inner), (f"{base}.mlp.up_proj", inner)]
    elif part == "mlp":
        found = [(f"{base}.mlp.down_proj", spec.hidden_size)]
    elif part == "conv":
        rows = 3 * spec.hidden_size if rest == "in" else spec.hidden_size
        found = [(f"{base}.conv.{rest}_proj", rows)]
    places, start = {}, 0
    for name, count in found:
        places[name] = _Place(label, start, start + count)
        start += count
    return places
