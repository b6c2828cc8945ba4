"""Checkpoint in, verified bundle out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevlm.bundle import BundleWriter, Manifest
from edgevlm.errors import CheckpointError, ConfigError, ExportError
from edgevlm.export import recipe as checkpoint_recipe
from edgevlm.export.decoder.weights import check_shapes
from edgevlm.export.hf_import import recipe as graph_recipe
from edgevlm.export.hf_import.files import graph_folder
from edgevlm.export.hf_layout.folder import LayoutWriter
from edgevlm.export.hf_layout.pipeline import check_options, write_layout
from edgevlm.export.judgement import judge
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.progress import Progress, Report
from edgevlm.export.repair.rounds import Repair
from edgevlm.export.staging import Staging
from edgevlm.parity import Certificate


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote; a folder of graphs has no manifest."""

    target: Path
    manifest: Manifest | None
    certificate: Certificate
    size: int


def gather(source: str, options: ExportOptions) -> ModelParts:
    """Read the checkpoint that ``source`` names: ``nano``, a folder, or a GGUF file.

    Raises:
        CheckpointError: nothing there, or nothing that is known.
        ConfigError: an option that does not fit it.
    """
    if source == "nano":
        from edgevlm.export.nano import recipe

        return recipe.gather(options)
    if options.weights is not None:
        raise ConfigError(f"--weights {options.weights}: they are nano's, and {source} is not nano")
    path = Path(source)
    if path.is_dir() and graph_folder(path) is not None:
        return graph_recipe.gather(path, options)
    if options.reference is not None:
        raise ConfigError(f"--reference: {source} has weights of its own to be compared with")
    if path.is_dir():
        return checkpoint_recipe.gather_folder(path, options)
    if path.is_file() and path.suffix == ".gguf":
        return checkpoint_recipe.gather_gguf(path, options)
    if path.exists():
        raise CheckpointError(f"{path} is neither a checkpoint folder nor a .gguf file")
    raise CheckpointError(f"{source!r} is neither 'nano' nor a checkpoint folder")


def export(
    source: str,
    target: Path,
    options: ExportOptions | None = None,
    report: Report = lambda _done, _total, _what: None,
) -> Exported:
    """Write the bundle, or with ``--layout hf`` the folder of graphs; or nothing.

    Args:
        source: ``nano``, a Hugging Face checkpoint folder, a folder of graphs in the layout of
            onnx-community, or a GGUF file.
        target: the bundle folder, or a path ending in ``.evlm``.
        options: what differs from the defaults.
        report: called after every step with ``(done, total, what)``.

    Raises:
        BundleExists: the target is there and ``force`` is not set.
        CheckpointError: the source cannot be read.
        ConfigError: options that do not fit the model.
        ParityError: a gate is missed and ``allow_drift`` is not set.
        ExportError: writing failed (disk full, no permission).
    """
    options = options or ExportOptions()
    graphs = options.layout == "hf"
    if graphs:
        check_options(source, target, options)
    with (LayoutWriter if graphs else BundleWriter)(target, options.force) as writer:
        try:
            parts = gather(source, options)
            if parts.spec is not None and parts.weights is not None:
                check_shapes(parts.spec, parts.weights)
        except OSError as exc:
            raise CheckpointError(f"{source} cannot be read: {exc}") from exc
        try:
            with np.errstate(all="ignore"):  # what overflows is judged by the gates
                if isinstance(writer, LayoutWriter):
                    return _write_graphs(writer, Path(source), parts, options, report)
                return _write(writer, parts, options, report)
        except OSError as exc:
            raise ExportError(f"{target} cannot be written: {exc}") from exc
        except MemoryError as exc:
            raise ExportError(f"{source}: out of memory during the export") from exc


def _write(
    writer: BundleWriter, parts: ModelParts, options: ExportOptions, report: Report
) -> Exported:
    staging = Staging(writer, parts, options)
    progress = Progress(staging.steps, report)
    staging.lower(progress)
    staging.probe(progress)
    certificate = staging.certify(progress)
    repair = Repair(staging, options.repair_budget)
    while certificate.misses and repair.round(certificate, progress):
        certificate = staging.certify(progress)
    _judge(certificate, writer.target, options, repair.outcome)
    manifest = staging.commit(certificate)
    size = sum(file.size for file in manifest.files.values())
    return Exported(writer.target, manifest, certificate, size)


def _write_graphs(
    writer: LayoutWriter, folder: Path, parts: ModelParts, options: ExportOptions, report: Report
) -> Exported:
    certificate = write_layout(writer, folder, parts, options, report)
    _judge(certificate, writer.target, options)
    size = sum(file.size for file in writer.unhashed_files().values())
    writer.publish()
    return Exported(writer.target, None, certificate, size)


def _judge(
    certificate: Certificate, target: Path, options: ExportOptions, repair: str = ""
) -> None:
    judge(
        certificate,
        f"{target} is",
        allow_drift=options.allow_drift,
        advice="try a higher --precision",
        repair=repair,
    )
