"""Checkpoint in, folder of graphs out, held against its source like a bundle.

The written folder is read back as anybody's folder of graphs is, run, and compared with the
source model: what is certified is what was written, through the names of the layout.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevlm.bundle import BundleWriter
from edgevlm.errors import ConfigError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.hf_import import recipe as graph_recipe
from edgevlm.export.hf_import.files import graph_folder
from edgevlm.export.hf_layout.folder import LayoutWriter, copy_beside
from edgevlm.export.hf_layout.graphs import check_parts, write_graphs
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.preflight import check_room, disk_bytes, memory_bytes
from edgevlm.export.progress import Progress, Report
from edgevlm.export.settings import precision_plan, reference_of
from edgevlm.export.staging import Staging
from edgevlm.parity import Certificate


def check_options(source: str, target: Path, options: ExportOptions) -> Path:
    """The checkpoint folder.

    Raises:
        ConfigError: a source, a target or an option that the layout has no place for.
    """
    chosen = {
        "--image-size": options.image_size,
        "--max-context": options.max_context,
        "--resume": options.resume or None,
        "--reference": options.reference,
    }
    if odd := [flag for flag, value in chosen.items() if value is not None]:
        raise ConfigError(f"{', '.join(odd)}: --layout hf has no place for it")
    if target.suffix == ".evlm":
        raise ConfigError(f"{target}: --layout hf writes a folder; .evlm is a bundle's")
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigError(f"{source}: --layout hf takes a checkpoint folder")
    if graph_folder(folder) is not None:
        raise ConfigError(f"{source} is a folder of graphs already; --layout hf takes a checkpoint")
    return folder


def write_layout(
    writer: LayoutWriter,
    folder: Path,
    parts: ModelParts,
    options: ExportOptions,
    report: Report,
) -> Certificate:
    """Write everything into the writer's folder, and measure it.

    Args:
        writer: the temporary folder.
        folder: the checkpoint.
        parts: gathered from it.
        options: what the user chose.
        report: called after every step with ``(done, total, what)``.

    Raises:
        CheckpointError: a model that the layout cannot hold.
        ExportError: too little disk or memory.
    """
    spec, _ = check_parts(parts)
    plan = precision_plan(options, parts)
    disk = 2 * disk_bytes(parts.parameters, plan.default)  # the graphs, and a copy to run
    check_room(writer.target, disk, memory_bytes(parts.parameters))
    pictures = parts.image is not None
    steps = spec.num_layers + 1 + (2 if pictures else 0)
    progress = Progress(steps + (3 if pictures else 1) + 3, report)
    (writer.root / "onnx").mkdir()
    write_graphs(writer.root / "onnx", parts, plan, progress)
    beside = len(list(writer.root.glob("onnx/*.onnx_data")))
    copy_beside(Checkpoint(folder, options.adapter), parts, writer.root, beside)
    certificate = _certify(writer, parts, ExportOptions(precision=plan.default), progress)
    text = certificate.model_dump_json(indent=1, exclude_defaults=False)
    (writer.root / "parity.json").write_text(text + "\n", "utf-8")
    return certificate


def _certify(
    writer: LayoutWriter, parts: ModelParts, options: ExportOptions, progress: Progress
) -> Certificate:
    """Import the folder and hold it against the checkpoint."""
    found = replace(graph_recipe.gather(writer.root, options), reference=reference_of(parts))
    copy = writer.target.with_name(f".{writer.target.name}-check")
    with BundleWriter(copy) as bundle:
        staging = Staging(bundle, found, options)
        staging.lower(progress)
        staging.probe(progress)
        return staging.certify(progress)
