"""The cost sheet of a checkpoint that has not been exported."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgevlm.bundle.manifest import GraphEntry
from edgevlm.cost.sheet import CostSheet, GraphCost, PictureSetting
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.cost.common import (
    COUNTED,
    Language,
    cache,
    counted,
    load,
    parameters,
    setting,
    table,
)
from edgevlm.export.cost.hollow import HollowCheckpoint, HollowSource
from edgevlm.export.decoder.part import DecoderPart
from edgevlm.export.hf_import.files import graph_folder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.nano.recipe import resized
from edgevlm.export.pipeline import gather
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.recipe import family_of

FLOAT = PrecisionPlan(default="fp32")
ANY_CAPACITY = 8192  # of a graph that is only counted


def source_sheet(
    source: str,
    options: ExportOptions,
    sizes: tuple[int, ...] = (),
    tokens: tuple[int, ...] = (),
) -> CostSheet:
    """The cost sheet of a checkpoint: graphs are written without their numbers, and counted.

    Args:
        source: ``nano``, a checkpoint folder, or a GGUF file.
        options: of the export that is being considered.
        sizes: further picture sizes to try; those that the family refuses are left out.
        tokens: further numbers of visual tokens, likewise.

    Raises:
        CheckpointError: the source cannot be read, or is a folder of finished graphs.
        ConfigError: options that do not fit the model.
    """
    parts = _hollow_parts(source, options)
    with tempfile.TemporaryDirectory(prefix="edgevlm-plan-") as folder:
        graphs, entries = _lowered(Path(folder), parts, language=True)
    settings: list[PictureSetting] = []
    if "vision" in graphs:
        vision, visual = entries["vision"], parts.visual_tokens
        first = setting(parts.image, graphs["vision"], vision, options, visual)
        settings = [first, *_further(source, parts, options, sizes, tokens)]
    spec = _language(parts)
    own = {} if spec is None or spec.tied_head else table(spec)
    kv_values, state = cache(spec)
    return CostSheet(
        name=parts.name,
        family=parts.family,
        parameters=parameters(graphs, own),
        settings=tuple(settings),
        encoder=graphs.get("encoder"),
        decoder=graphs.get("decoder"),
        embedding=own,
        kv_values_per_token=kv_values,
        state_values=state,
        max_context=0 if spec is None else spec.max_positions,
    )


def _hollow_parts(source: str, options: ExportOptions) -> ModelParts:
    folder = Path(source)
    if source != "nano" and folder.is_dir():
        if graph_folder(folder) is not None:
            raise CheckpointError(f"{source} holds finished graphs: export it and plan the bundle")
        checkpoint = HollowCheckpoint(folder, options.adapter)
        parts: ModelParts = family_of(checkpoint).gather(checkpoint, options)
        return parts
    parts = gather(source, options)
    return replace(parts, weights=None if parts.weights is None else HollowSource(parts.weights))


def _lowered(
    folder: Path, parts: ModelParts, *, language: bool
) -> tuple[dict[str, GraphCost], dict[str, GraphEntry]]:
    """Every graph of a model, counted; without ``language`` the vision graph alone."""
    progress = Progress(0)
    entries: dict[str, GraphEntry] = {}
    for part in parts.parts:
        if language or getattr(part, "name", "vision") == "vision":
            entries |= part.lower(folder, FLOAT, progress).graphs
    if language and parts.spec is not None and parts.weights is not None:
        capacity = min(parts.spec.max_positions, ANY_CAPACITY)
        decoder = DecoderPart(spec=parts.spec, weights=parts.weights, capacity=capacity)
        entries |= decoder.lower(folder, FLOAT, progress).graphs
    spec = _language(parts)
    graphs = {
        name: counted(name, load(folder / entries[name].file), entries[name], parts.image, spec)
        for name in COUNTED
        if name in entries and (language or name == "vision")
    }
    return graphs, entries


def _further(
    source: str,
    parts: ModelParts,
    options: ExportOptions,
    sizes: tuple[int, ...],
    tokens: tuple[int, ...],
) -> Iterator[PictureSetting]:
    """Other ways to encode a picture, as far as the family has them."""
    seen = {(options.image_size, options.tokens)}
    for size in (options.image_size, *sizes):
        for count in (options.tokens, *tokens):
            if (size, count) in seen:
                continue
            seen.add((size, count))
            chosen = replace(options, image_size=size, tokens=count)
            try:
                nano = parts.family == "nano"  # whose packages take seconds to read
                other = resized(parts, chosen) if nano else _hollow_parts(source, chosen)
            except ConfigError:
                continue
            with tempfile.TemporaryDirectory(prefix="edgevlm-plan-") as folder:
                graphs, entries = _lowered(Path(folder), other, language=False)
            vision, visual = entries["vision"], other.visual_tokens
            yield setting(other.image, graphs["vision"], vision, chosen, visual)


def _language(parts: ModelParts) -> Language | None:
    spec: Language | None = parts.spec or parts.sections.get("seq2seq")
    return spec
