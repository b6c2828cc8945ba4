"""The decoder as one part of a model: its graph, its weights and the embedding table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.calibrate.decoder import CalibratedSource, calibrate
from edgevlm.export.calibrate.pictures import PictureRows
from edgevlm.export.calibrate.spill import Spill, SpilledBlocks
from edgevlm.export.decoder import ort_gqa
from edgevlm.export.decoder.branches import FILE, branched, has_branches
from edgevlm.export.decoder.embedding import embedding_table
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile
from edgevlm.export.model_parts import Lowered
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecoderPart:
    """Writes ``decoder.onnx``, its data, and where there can be one ``decoder.branches.onnx``.

    Args:
        spec: shape of the decoder.
        weights: of the decoder.
        capacity: tokens that the KV cache holds.
        calibration: tokens of a text that 4-bit weights are rounded with an eye on; none rounds
            to nearest.
        pictures: gives rows to calibrate on besides.
    """

    spec: DecoderSpec
    weights: WeightSource
    capacity: int
    calibration: tuple[int, ...] = ()
    pictures: PictureRows | None = None
    _rounded: dict[str, SpilledBlocks] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """One a layer, and the head; and one a layer to calibrate, the first time."""
        begins = self._calibrated and not self._rounded
        return self.spec.num_layers * (2 if begins else 1) + 1

    @property
    def _packed(self) -> bool:
        """True if the checkpoint's own matrices are in blocks, which are kept."""
        return self.weights.blocks("layers.0.mlp.down_proj.weight") is not None

    @property
    def _calibrated(self) -> bool:
        return bool(self.calibration) and not self._packed

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write the graph, layer by layer."""
        source: WeightSource = self.weights
        if self._calibrated:
            if not self._rounded:
                self._calibrate(folder, plan, progress)
            source = CalibratedSource(source, self._rounded)
        with DataFile(folder / "decoder.onnx.data") as data:
            graph, lowered = ort_gqa.lower(self.spec, source, plan, data, self.capacity, progress)
            table = embedding_table(self.spec, source, plan, data, lowered.weights)
            graph.save(folder / "decoder.onnx")
        notes = (self._note(),) if plan.default == "int4" else ()
        changes: dict[str, object] = {"notes": notes}
        if has_branches(self.spec):
            side_by_side, changes["branches"] = branched(graph)
            side_by_side.save(folder / FILE)
        entry = lowered.graph.model_copy(update=changes)
        return Lowered({"decoder": entry}, {**lowered.weights, "embedding": table})

    def _calibrate(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> None:
        rows = [] if self.pictures is None else self.pictures.of(folder)
        self._rounded.update(
            calibrate(
                self.spec,
                self.weights,
                plan,
                self.calibration,
                rows,
                spill=Spill(folder),
                layer_done=progress.step,
            )
        )

    def _note(self) -> str:
        """How the weights were rounded."""
        if self._packed:
            return "4-bit weights as the checkpoint has them"
        if not self.calibration:
            return "4-bit weights rounded to nearest"
        beside = "" if self.pictures is None else " of text and on pictures"
        return f"4-bit weights calibrated on {len(self.calibration)} tokens{beside} (GPTQ)"
