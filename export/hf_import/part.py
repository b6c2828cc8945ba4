"""The graphs of an imported model, as one part of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.manifest import GraphEntry, Precision
from edgevlm.export.hf_import.decoder import check_decoder, raise_accuracy
from edgevlm.export.hf_import.embedding import Lookup, find_lookup, take_rows
from edgevlm.export.hf_import.files import GraphFiles
from edgevlm.export.hf_import.model_file import ModelFile
from edgevlm.export.hf_import.vision import wrap_vision
from edgevlm.export.model_parts import Lowered
from edgevlm.export.models.image_config import Triple
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress

LOWERING = "hf-merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedGraphs:
    """Writes ``decoder.onnx``, ``embedding.data`` and, where there is one, ``vision.onnx``.

    Args:
        files: the graphs.
        spec: shape of the decoder.
        image: how pictures are cut; None for a text model.
        normal: mean and standard deviation of each channel, of pixels in [0, 1].
    """

    files: GraphFiles
    spec: DecoderSpec
    image: ImageSpec | None = None
    normal: tuple[Triple, Triple] | None = None

    @property
    def steps(self) -> int:
        """One a file."""
        return len(self.files.all)

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:
        """Copy the graphs, with what this runtime gives and takes around them.

        Raises:
            CheckpointError: a graph that does not fit the configuration or the runtime.
        """
        graphs: dict[str, GraphEntry] = {}
        if self.files.vision is not None and self.image is not None and self.normal is not None:
            file = ModelFile(self.files.vision)
            wrap_vision(file, self.image, *self.normal, self.spec.hidden_size)
            graphs["vision"] = _saved(file, folder, "vision", "onnx", plan.default)
            progress.step(file.path.name)
        lookup = None
        if self.files.embed is not None:
            lookup = find_lookup(ModelFile(self.files.embed))
            progress.step(self.files.embed.name)
        file = ModelFile(self.files.decoder)
        check_decoder(file, self.spec)
        lookup = lookup or _cut(file)
        graphs["decoder"] = _saved(file, folder, "decoder", LOWERING, plan.default)
        progress.step(file.path.name)
        return Lowered(graphs, {"embedding": lookup.write(folder / "embedding.data")})


def _cut(file: ModelFile) -> Lookup:
    lookup = find_lookup(file)
    take_rows(file, lookup)
    return lookup


def _saved(
    file: ModelFile, folder: Path, name: str, lowering: str, precision: Precision
) -> GraphEntry:
    notes = (f"imported from {file.path.name}", *raise_accuracy(file))
    file.save(folder / f"{name}.onnx")
    return GraphEntry(
        file=f"{name}.onnx",
        lowering=lowering,
        opset=file.opset,
        precision=precision,
        notes=notes,
        inputs=file.inputs(),
        outputs=file.outputs(),
    )
