"""Gather a model from a folder of finished graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.hf_import.checkpoint import GraphCheckpoint
from edgevlm.export.hf_import.files import find_graphs, graph_folder
from edgevlm.export.hf_import.model_file import ModelFile
from edgevlm.export.hf_import.part import ImportedGraphs
from edgevlm.export.hf_import.unverified import NoReference
from edgevlm.export.model_parts import ExportOptions, ModelParts, Reference
from edgevlm.export.models.image_config import Triple, normalisation
from edgevlm.export.recipe import family_of, gather_folder
from edgevlm.export.reference.direct import DirectReference

# Families whose pictures come as tiles and nothing else, and what their processors normalise by
# where the folder does not say.
PICTURES = {
    "smolvlm": "standard",
    "idefics3": "standard",
    "fast_vlm": "clip",
    "internvl": "imagenet",
}


def gather(folder: Path, options: ExportOptions) -> ModelParts:
    """Read a folder of graphs, made by onnx-community, optimum or ``--layout hf``.

    Raises:
        CheckpointError: an unknown ``model_type``, missing or unfit files.
        ConfigError: an option that does not fit.
    """
    _check_options(options)
    checkpoint = GraphCheckpoint(folder)
    place = graph_folder(folder)
    if place is None:
        raise CheckpointError(f"{folder} holds no decoder graph that is known")
    described: ModelParts = family_of(checkpoint).gather(
        checkpoint, replace(options, check_images=None)
    )
    return with_graphs(described, checkpoint, place, options)


def with_graphs(
    described: ModelParts, checkpoint: GraphCheckpoint, place: Path, options: ExportOptions
) -> ModelParts:
    """The same model, its parts taken from graphs.

    Args:
        described: the model as its family reads it.
        checkpoint: the folder.
        place: where its graphs lie.
        options: what the user chose.

    Raises:
        CheckpointError: missing files, or a family whose graphs are not imported.
    """
    image, spec = described.image, described.spec
    if spec is None or (image is not None and described.family not in PICTURES):
        raise CheckpointError(
            f"{checkpoint.folder}: graphs of {described.family} are not imported, because the "
            f"layout leaves out what it needs; imported are text models and {', '.join(PICTURES)}:"
            " export the checkpoint itself"
        )
    precision = options.precision or described.precision
    files = find_graphs(place, precision, vision=image is not None)
    normal: tuple[Triple, Triple] | None = None
    if image is not None:
        normal = normalisation(checkpoint.processor, PICTURES[described.family])
    paths = tuple(p for graph in files.all for p in (graph, *ModelFile(graph).data_files))
    return replace(
        described,
        spec=spec.model_copy(update={"embed_scale": 1.0}),  # it is in the graph
        weights=None,
        weight_files=paths,
        parts=(ImportedGraphs(files=files, spec=spec, image=image, normal=normal),),
        reference=_reference(described, options),
        parameters=sum(path.stat().st_size for path in paths) // 2,
    )


def _reference(described: ModelParts, options: ExportOptions) -> Reference:
    """The checkpoint that the graphs came from, where it was given."""
    if options.reference is None:
        return NoReference()
    source = gather_folder(options.reference, ExportOptions(check_images=options.check_images))
    if source.family != described.family:
        raise ConfigError(
            f"--reference {options.reference} is a {source.family}, the graphs are those of a "
            f"{described.family}"
        )
    if source.reference is not None:
        return source.reference
    if source.spec is None or source.weights is None or source.tokenizer is None:
        raise ConfigError(f"--reference {options.reference} has no weights to compare with")
    return DirectReference(spec=source.spec, weights=source.weights, tokenizer=source.tokenizer)


def _check_options(options: ExportOptions) -> None:
    """Raise ConfigError for options that only a checkpoint with weights can follow."""
    if options.adapter is not None:
        raise ConfigError(f"--adapter {options.adapter}: adapters go onto checkpoints with weights")
    if options.resume:
        raise ConfigError("--resume: finished graphs are copied, there is nothing long to resume")
    if options.check_images is not None and options.reference is None:
        raise ConfigError("--check-images: finished graphs need --reference to compare with")
