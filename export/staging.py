"""The stages of one export, each leaving its files in the temporary bundle."""

from __future__ import annotations

import shutil
from typing import get_args

from pydantic import ValidationError

from edgevlm.bundle import BundleWriter, Manifest
from edgevlm.bundle.manifest import GraphEntry, Precision, WeightEntry
from edgevlm.bundle.provenance import FileEntry, ParitySummary
from edgevlm.errors import ConfigError, ExportError
from edgevlm.export.calibrate.text import calibration_ids
from edgevlm.export.checkpoint import reason
from edgevlm.export.decoder.linear import PrecisionPlan
from edgevlm.export.decoder.part import DecoderPart
from edgevlm.export.manifest import make_manifest, source_hashes
from edgevlm.export.model_parts import (
    ExportOptions,
    GraphPart,
    Lowered,
    ModelParts,
    Reference,
)
from edgevlm.export.preflight import check_room, disk_bytes, memory_bytes
from edgevlm.export.probe import GREEDY_STEPS, probe_texts
from edgevlm.export.progress import Progress
from edgevlm.export.reference.child import run_module
from edgevlm.export.reference.direct import DirectReference
from edgevlm.export.stage_store import StageStore
from edgevlm.parity import Certificate

DEFAULT_CONTEXT = 2048
# Larger decoders are rounded to nearest: they lose less by it, and calibrating them takes hours.
CALIBRATED_PARAMETERS = 600_000_000
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


class Staging:
    """One export under way. Call its stages in their order: lower, probe, certify, commit.

    Args:
        writer: the temporary bundle.
        parts: the gathered model.
        options: what the user chose.

    Raises:
        ConfigError: options that do not fit the model.
        ExportError: too little disk or memory for it.
    """

    def __init__(self, writer: BundleWriter, parts: ModelParts, options: ExportOptions) -> None:
        self._writer = writer
        self._root = writer.root
        self._parts = parts
        self._options = options
        self._plan = precision_plan(options, parts)
        self._capacity = _capacity(options, parts)
        self._reference = _reference(parts)
        self._decoder = _decoder(parts, options, self._plan, self._capacity)
        self._graphs: dict[str, GraphEntry] = {}
        self._weights: dict[str, WeightEntry] = {}
        disk = disk_bytes(parts.parameters, self._plan.default)
        check_room(writer.target, disk, memory_bytes(parts.parameters))
        if options.check_images is not None:
            run_module(
                "edgevlm.runtime.model.check_pictures",
                options.check_images,
                doing="reading the pictures to check",
            )
        self._hashes = source_hashes(parts)
        self._store = StageStore.open(options, parts.weight_files, self._hashes)

    @property
    def steps(self) -> int:
        """How often the stages tell the progress."""
        return sum(part.steps for part in self._all_parts()) + 3

    def _all_parts(self) -> list[GraphPart]:
        return [*self._parts.parts, *([self._decoder] if self._decoder else [])]

    def lower(self, progress: Progress) -> None:
        """Write every graph, the tokenizer, the template and the licences."""
        for number, part in enumerate(self._all_parts()):
            lowered = self._lower(f"part-{number}", part, progress)
            self._graphs |= lowered.graphs
            self._weights |= lowered.weights
        self._write_texts()

    def _lower(self, stage: str, part: GraphPart, progress: Progress) -> Lowered:
        found = self._store.find(stage, self._root)
        if found is not None:
            progress.skip(part.steps, f"{', '.join(found.graphs)} from an earlier try")
            return found
        with self._store.keeping(stage, self._root) as results:
            results.append(part.lower(self._root, self._plan, progress))
        return results[0]

    def _write_texts(self) -> None:
        texts = dict(self._parts.extra_files)
        if self._parts.tokenizer is not None:
            texts["tokenizer.json"] = self._parts.tokenizer.to_str()
        if self._parts.chat_template is not None:
            texts["chat_template.jinja"] = self._parts.chat_template
        texts |= {f"LICENSES/{name}": text for name, text in self._parts.licenses.items()}
        for name, text in texts.items():
            path = self._root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")

    def probe(self, progress: Progress) -> None:
        """Let the source model answer the probe."""
        self._writer.write_manifest(self._manifest(self._writer.unhashed_files()))
        if self._reference is None:
            return
        if self._store.find("probe", self._root) is not None:
            progress.skip(2, "source model from an earlier try")
            return
        with self._store.keeping("probe", self._root):
            self._reference.write(self._root, progress)

    def certify(self, progress: Progress) -> Certificate:
        """Run the probe through the graphs, in a child process: no engine is loaded here."""
        self._writer.write_manifest(self._manifest(self._writer.unhashed_files()))
        printed = run_module(
            "edgevlm.runtime.model.certify", self._root, doing="running the exported graphs"
        )
        progress.step("parity")
        return Certificate.model_validate_json(printed)

    def commit(self, certificate: Certificate) -> Manifest:
        """Write the certificate and the manifest, and move the bundle to its place."""
        for folder in self._root.glob("probe/check-*"):  # the user's pictures stay the user's
            shutil.rmtree(folder)
        text = certificate.model_dump_json(indent=1, exclude_defaults=False)
        (self._root / "parity.json").write_text(text + "\n", "utf-8")
        reasons = certificate.degraded
        summary = ParitySummary(passed=not reasons, degraded=reasons)
        written = self._writer.commit(lambda files: self._manifest(files, summary))
        self._store.forget()
        return written

    def _manifest(
        self, files: dict[str, FileEntry], parity: ParitySummary | None = None
    ) -> Manifest:
        try:
            return make_manifest(
                self._parts,
                self._plan.default,
                self._capacity,
                self._graphs,
                self._weights,
                files,
                self._hashes,
                parity,
            )
        except ValidationError as exc:
            raise ExportError(f"the manifest does not hold together: {reason(exc)}") from exc


def precision_plan(options: ExportOptions, parts: ModelParts) -> PrecisionPlan:
    """Which precision each weight gets.

    Raises:
        ConfigError: there is no such precision.
    """
    default = options.precision or parts.precision
    if default not in get_args(Precision):
        raise ConfigError(f"--precision {default}: one of {', '.join(get_args(Precision))}")
    overrides: dict[str, Precision] = dict(options.overrides)
    if default == "int4":
        overrides |= {k: v for k, v in INT4_EXCEPTIONS.items() if k not in overrides}
    return PrecisionPlan(default=default, symmetric=options.symmetric, overrides=overrides)


def _reference(parts: ModelParts) -> Reference | None:
    if parts.reference is not None:
        return parts.reference
    if parts.spec is None or parts.weights is None or parts.tokenizer is None:
        return None
    return DirectReference(spec=parts.spec, weights=parts.weights, tokenizer=parts.tokenizer)


def _decoder(
    parts: ModelParts, options: ExportOptions, plan: PrecisionPlan, capacity: int
) -> DecoderPart | None:
    if parts.spec is None or parts.weights is None:
        return None
    ids: tuple[int, ...] = ()
    small = options.calibrate and parts.spec.parameter_count() <= CALIBRATED_PARAMETERS
    if plan.default == "int4" and parts.tokenizer is not None and small:
        ids = calibration_ids(parts.tokenizer, parts.spec.vocab_size)
    return DecoderPart(spec=parts.spec, weights=parts.weights, capacity=capacity, calibration=ids)


def _capacity(options: ExportOptions, parts: ModelParts) -> int:
    """Tokens of the KV cache; 0 for a model without a decoder."""
    if parts.spec is None or parts.tokenizer is None:
        return 0
    limit = parts.spec.max_positions
    visual = parts.visual_tokens.count if parts.visual_tokens else 0
    before, after = probe_texts(parts.tokenizer, parts.spec.vocab_size)
    least = len(before) + visual + len(after) + GREEDY_STEPS  # the parity probe must fit
    if limit < least:
        raise ConfigError(f"{parts.name} holds {limit} tokens; the parity probe has {least}")
    roomy = max(DEFAULT_CONTEXT, visual + DEFAULT_CONTEXT // 2)
    wanted = min(roomy, limit) if options.max_context is None else options.max_context
    if not least <= wanted <= limit:
        raise ConfigError(f"--max-context {wanted}: {parts.name} takes {least} to {limit} tokens")
    return wanted
