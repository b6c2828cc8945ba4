"""Checkpoint in, verified bundle out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import ValidationError

from edgevlm.bundle import BundleWriter, Manifest
from edgevlm.bundle.manifest import (
    FileEntry,
    GraphEntry,
    ParitySummary,
    Precision,
    WeightEntry,
)
from edgevlm.errors import CheckpointError, ConfigError, ExportError, ParityError
from edgevlm.export import text_recipe
from edgevlm.export.checkpoint import reason
from edgevlm.export.decoder import ort_gqa
from edgevlm.export.decoder.embedding import embedding_table
from edgevlm.export.decoder.linear import PrecisionPlan
from edgevlm.export.decoder.weights import check_shapes
from edgevlm.export.graph import DataFile
from edgevlm.export.manifest import make_manifest
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.probe import GREEDY_STEPS, probe_texts, write_probe
from edgevlm.export.progress import Progress
from edgevlm.export.reference.decoder import NumpyDecoder
from edgevlm.parity import Certificate

Report = Callable[[int, int, str], None]
DEFAULT_CONTEXT = 2048
CHILD_TIMEOUT_S = 1800.0
# Query, key and value decide where attention looks: in 4 bits they cost more accuracy than all
# other layers together, and they are small. The output head has a tiny model's whole vocabulary
# to tell apart, and shares its table with the embedding.
INT4_EXCEPTIONS: dict[str, Precision] = {
    "embed_tokens": "int8",
    "lm_head": "int8",
    "*.self_attn.q_proj": "int8",
    "*.self_attn.k_proj": "int8",
    "*.self_attn.v_proj": "int8",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    target: Path
    manifest: Manifest
    certificate: Certificate


def gather(source: str, options: ExportOptions) -> ModelParts:
    """Read the checkpoint that ``source`` names: ``nano``, a folder, or a GGUF file.

    Raises:
        CheckpointError: nothing there, or nothing that is known.
    """
    if source == "nano":
        from edgevlm.export.nano import recipe

        return recipe.gather(options)
    path = Path(source)
    if path.is_dir():
        return text_recipe.gather_folder(path, options)
    if path.is_file() and path.suffix == ".gguf":
        return text_recipe.gather_gguf(path, options)
    if path.exists():
        raise CheckpointError(f"{path} is neither a checkpoint folder nor a .gguf file")
    raise CheckpointError(f"{source!r} is neither 'nano' nor a checkpoint folder")


def export(
    source: str,
    target: Path,
    options: ExportOptions | None = None,
    report: Report = lambda _done, _total, _what: None,
) -> Exported:
    """Write the bundle, or nothing.

    Args:
        source: ``nano``, a Hugging Face checkpoint folder, or a GGUF file.
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
    with BundleWriter(target, options.force) as writer:
        try:
            parts = gather(source, options)
            check_shapes(parts.spec, parts.weights)
        except OSError as exc:
            raise CheckpointError(f"{source} cannot be read: {exc}") from exc
        progress = Progress(parts.spec.num_layers + 5, report)
        try:
            with np.errstate(all="ignore"):  # what overflows is judged by the gates
                return _write(writer, parts, options, progress)
        except OSError as exc:
            raise ExportError(f"{target} cannot be written: {exc}") from exc
        except MemoryError as exc:
            raise ExportError(f"{source}: out of memory during the export") from exc


def _write(
    writer: BundleWriter, parts: ModelParts, options: ExportOptions, progress: Progress
) -> Exported:
    root = writer.root
    plan = _plan(options, parts)
    texts = probe_texts(parts.tokenizer, parts.spec.vocab_size)
    capacity = _capacity(options, parts, texts)
    graphs: dict[str, GraphEntry] = {}
    if parts.vision is not None:
        graphs["vision"] = parts.vision.lower(root)
    progress.step("vision encoder")
    weights = _write_decoder(root, parts, plan, capacity, graphs, progress)
    _write_texts(root, parts)
    write_probe(
        root / "probe",
        texts,
        NumpyDecoder(parts.spec, parts.weights),
        parts.vision.reference if parts.vision else None,
        (parts.image.height, parts.image.width) if parts.image else None,
        progress,
    )

    def manifest(files: dict[str, FileEntry], parity: ParitySummary | None = None) -> Manifest:
        try:
            return make_manifest(parts, plan.default, capacity, graphs, weights, files, parity)
        except ValidationError as exc:
            raise ExportError(f"the manifest does not hold together: {reason(exc)}") from exc

    writer.write_manifest(manifest(writer.files()))
    certificate = _certify(root)
    progress.step("parity")
    misses = tuple(f"{b.backend}: {name}" for b in certificate.backends for name in b.misses)
    if misses and not options.allow_drift:
        raise ParityError(
            f"{writer.target} is not written: parity gates missed ({', '.join(misses)}); "
            f"{_figures(certificate)}; try a higher --precision, or accept it with --allow-drift"
        )
    (root / "parity.json").write_text(certificate.model_dump_json(indent=1) + "\n", "utf-8")
    summary = ParitySummary(passed=not misses, degraded=misses)
    written = writer.commit(lambda files: manifest(files, summary))
    return Exported(writer.target, written, certificate)


def _plan(options: ExportOptions, parts: ModelParts) -> PrecisionPlan:
    default = options.precision or parts.precision
    if default not in get_args(Precision):
        raise ConfigError(f"--precision {default}: one of {', '.join(get_args(Precision))}")
    overrides: dict[str, Precision] = dict(options.overrides)
    if default == "int4":
        overrides |= {k: v for k, v in INT4_EXCEPTIONS.items() if k not in overrides}
    return PrecisionPlan(default=default, symmetric=options.symmetric, overrides=overrides)


def _capacity(options: ExportOptions, parts: ModelParts, texts: tuple[list[int], list[int]]) -> int:
    limit = parts.spec.max_positions
    visual = parts.visual_tokens.count if parts.visual_tokens else 0
    least = len(texts[0]) + visual + len(texts[1]) + GREEDY_STEPS  # the parity probe must fit
    if limit < least:
        raise ConfigError(f"{parts.name} holds {limit} tokens; the parity probe has {least}")
    wanted = min(DEFAULT_CONTEXT, limit) if options.max_context is None else options.max_context
    if not least <= wanted <= limit:
        raise ConfigError(f"--max-context {wanted}: {parts.name} takes {least} to {limit} tokens")
    return wanted


def _write_decoder(
    root: Path,
    parts: ModelParts,
    plan: PrecisionPlan,
    capacity: int,
    graphs: dict[str, GraphEntry],
    progress: Progress,
) -> dict[str, WeightEntry]:
    with DataFile(root / "decoder.onnx.data") as data:
        graph, lowered = ort_gqa.lower(parts.spec, parts.weights, plan, data, capacity, progress)
        table = embedding_table(parts.spec, parts.weights, plan, data, lowered.weights)
        graph.save(root / "decoder.onnx")
    graphs["decoder"] = lowered.graph
    return {**lowered.weights, "embedding": table}


def _write_texts(root: Path, parts: ModelParts) -> None:
    texts = {"tokenizer.json": parts.tokenizer.to_str(), **parts.extra_files}
    if parts.chat_template is not None:
        texts["chat_template.jinja"] = parts.chat_template
    texts |= {f"LICENSES/{name}": text for name, text in parts.licenses.items()}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


def _certify(root: Path) -> Certificate:
    """Run the probe in a child process: the exporter itself loads no engine."""
    command = [sys.executable, "-m", "edgevlm.runtime.model.certify", str(root)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise ExportError(f"the parity run took over {CHILD_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise ExportError(f"the exported graphs do not run: {last}")
    return Certificate.model_validate_json(done.stdout)


def _figures(certificate: Certificate) -> str:
    parts = []
    for backend in certificate.backends:
        if backend.logits is not None:
            parts.append(
                f"logits max error {backend.logits.max_abs}, KL {backend.logits.kl_nats} nats"
            )
    return "; ".join(parts)
