"""The decoder as one part of a model: its graph, its weights and the embedding table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.calibrate.decoder import CalibratedSource, calibrate
from edgevlm.export.decoder import ort_gqa
from edgevlm.export.decoder.embedding import embedding_table
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile
from edgevlm.export.model_parts import Lowered
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.quantize import QuantBlocks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecoderPart:
    """Writes ``decoder.onnx`` and ``decoder.onnx.data``.

    Args:
        spec: shape of the decoder.
        weights: of the decoder.
        capacity: tokens that the KV cache holds.
        calibration: tokens of a text that 4-bit weights are rounded with an eye on; none rounds
            to nearest.
    """

    spec: DecoderSpec
    weights: WeightSource
    capacity: int
    calibration: tuple[int, ...] = ()
    _rounded: dict[str, QuantBlocks] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """One a layer, and the head; and one a layer to calibrate, the first time."""
        begins = bool(self.calibration) and not self._rounded
        return self.spec.num_layers * (2 if begins else 1) + 1

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write the graph, layer by layer."""
        source: WeightSource = self.weights
        graph_notes: tuple[str, ...] = ()
        if self.calibration:
            if not self._rounded:
                blocks = calibrate(self.spec, source, plan, self.calibration, progress.step)
                self._rounded.update(blocks)
            source = CalibratedSource(source, self._rounded)
            graph_notes = (f"4-bit weights calibrated on {len(self.calibration)} tokens (GPTQ)",)
        with DataFile(folder / "decoder.onnx.data") as data:
            graph, lowered = ort_gqa.lower(self.spec, source, plan, data, self.capacity, progress)
            table = embedding_table(self.spec, source, plan, data, lowered.weights)
            graph.save(folder / "decoder.onnx")
        entry = lowered.graph.model_copy(update={"notes": graph_notes})
        return Lowered({"decoder": entry}, {**lowered.weights, "embedding": table})
