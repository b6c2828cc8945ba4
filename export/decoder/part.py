"""The decoder as one part of a model: its graph, its weights and the embedding table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.decoder import ort_gqa
from edgevlm.export.decoder.embedding import embedding_table
from edgevlm.export.decoder.linear import PrecisionPlan
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile
from edgevlm.export.model_parts import Lowered
from edgevlm.export.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecoderPart:
    """Writes ``decoder.onnx`` and ``decoder.onnx.data``.

    Args:
        spec: shape of the decoder.
        weights: of the decoder.
        capacity: tokens that the KV cache holds.
    """

    spec: DecoderSpec
    weights: WeightSource
    capacity: int

    @property
    def steps(self) -> int:
        """One a layer, and the head."""
        return self.spec.num_layers + 1

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write the graph, layer by layer."""
        with DataFile(folder / "decoder.onnx.data") as data:
            graph, lowered = ort_gqa.lower(
                self.spec, self.weights, plan, data, self.capacity, progress
            )
            table = embedding_table(self.spec, self.weights, plan, data, lowered.weights)
            graph.save(folder / "decoder.onnx")
        return Lowered({"decoder": lowered.graph}, {**lowered.weights, "embedding": table})
