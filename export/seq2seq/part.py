"""An encoder-decoder as one part of a model: two graphs, their weights, the embedding table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgevlm.bundle.manifest import GraphEntry, Precision, WeightEntry
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.export.decoder.embedding import embedding_table
from edgevlm.export.decoder.ort_gqa import LOWERING
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.seq2seq.bart_decoder import write_decoder
from edgevlm.export.seq2seq.bart_encoder import write_encoder
from edgevlm.export.towers.writer import TowerWriter

# As in decoder-only models: where attention looks, and the vocabulary, are kept in 8 bits.
INT4_EXCEPTIONS: dict[str, Precision] = {
    "shared": "int8",
    "lm_head": "int8",
    "*.encoder_attn.[qkv]_proj": "int8",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seq2SeqPart:
    """Writes ``encoder.onnx`` and ``decoder.onnx`` with their data.

    Args:
        spec: shape of the model.
        weights: of it.
        capacity: tokens that the decoder's cache holds.
    """

    spec: Seq2SeqSpec
    weights: WeightSource
    capacity: int

    @property
    def steps(self) -> int:
        """One a layer."""
        return self.spec.encoder_layers + self.spec.decoder_layers

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Write both graphs, layer by layer."""
        if plan.default == "int4":
            plan = replace(plan, overrides=dict(plan.overrides) | INT4_EXCEPTIONS)
        encoder = self._encoder(folder, plan, progress)
        decoder = self._decoder(folder, plan, progress)
        return Lowered({**encoder.graphs, **decoder.graphs}, {**encoder.weights, **decoder.weights})

    def _encoder(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        # It runs once an answer, over many rows: 4 bits would cost time there, and save nothing.
        default: Precision = "int8" if plan.default == "int4" else plan.default
        with DataFile(folder / "encoder.onnx.data") as data:
            graph = GraphBuilder("encoder", data)
            writer = TowerWriter(graph, self.weights, replace(plan, default=default))
            write_encoder(writer, self.spec, progress)
            graph.save(folder / "encoder.onnx")
        return _written(graph, "onnx", default, writer.exceptions, writer.entries)

    def _decoder(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        with DataFile(folder / "decoder.onnx.data") as data:
            graph = GraphBuilder("decoder", data)
            writer = TowerWriter(graph, self.weights, plan)
            head = write_decoder(writer, self.spec, plan, self.capacity, progress)
            table = embedding_table(
                self.spec, self.weights, plan, data, head.entries, name="shared"
            )
            graph.save(folder / "decoder.onnx")
        exceptions = writer.exceptions | head.exceptions
        found = _written(graph, LOWERING, plan.default, exceptions, writer.entries | head.entries)
        return replace(found, weights={**found.weights, "embedding": table})


def _written(
    graph: GraphBuilder,
    lowering: str,
    precision: Precision,
    exceptions: dict[str, str],
    entries: dict[str, WeightEntry],
) -> Lowered:
    notes = ("4-bit weights rounded to nearest",) if precision == "int4" else ()
    entry = GraphEntry(
        file=f"{graph.name}.onnx",
        lowering=lowering,
        opset=graph.opset,
        precision=precision,
        exceptions=exceptions,
        notes=notes,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
    )
    weights = {f"{graph.name}.{name}": place for name, place in entries.items()}
    return Lowered({graph.name: entry}, weights)
