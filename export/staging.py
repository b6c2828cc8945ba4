"""The stages of one export, each leaving its files in the temporary bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from edgevlm.bundle import BundleWriter, Manifest
from edgevlm.bundle.manifest import GraphEntry, WeightEntry
from edgevlm.bundle.provenance import FileEntry, ParitySummary
from edgevlm.errors import ExportError
from edgevlm.export.checkpoint import reason
from edgevlm.export.manifest import make_manifest, source_hashes
from edgevlm.export.model_parts import (
    ExportOptions,
    GraphPart,
    Lowered,
    ModelParts,
)
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.preflight import check_room, disk_bytes, memory_bytes
from edgevlm.export.progress import Progress
from edgevlm.export.reference.child import run_module
from edgevlm.export.settings import capacity_of, decoder_part, precision_plan, reference_of
from edgevlm.export.stage_store import StageStore
from edgevlm.parity import Certificate


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
        self.writer = writer
        self._root = writer.root
        self._parts = parts
        self._options = options
        self.plan = precision_plan(options, parts)
        self._capacity = capacity_of(options, parts)
        self._reference = reference_of(parts)
        self._decoder = decoder_part(parts, options, self.plan, self._capacity, self._stage)
        self._graphs: dict[str, GraphEntry] = {}
        self._weights: dict[str, WeightEntry] = {}
        self._made: dict[int, set[str]] = {}  # number of a part -> its graphs
        self._sections: dict[str, Any] = {}  # of graphs that share weights, once they are there
        self._notes: dict[str, str] = {}
        disk = disk_bytes(parts.parameters, self.plan.default)
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
        sharing = sum(part.steps for part in self._parts.sharing)
        return sum(part.steps for part in self._all_parts()) + sharing + 3

    def _all_parts(self) -> list[GraphPart]:
        return [*self._parts.parts, *([self._decoder] if self._decoder else [])]

    def lower(self, progress: Progress) -> None:
        """Write every graph, the tokenizer, the template and the licences."""
        self._write_texts()
        for number, part in enumerate(self._all_parts()):
            self._take(number, self._lower(f"part-{number}", part, progress))
        self._share(progress)

    def _share(self, progress: Progress) -> None:
        """Write the graphs over weights of the others, which know where those lie now."""
        for part in self._parts.sharing:
            self._graphs |= part.lower(self._root, self._weights, progress).graphs
            self._sections |= part.sections

    def _take(self, number: int, lowered: Lowered) -> None:
        self._graphs |= lowered.graphs
        self._weights |= lowered.weights
        self._made[number] = set(lowered.graphs)

    def parts_of(self, graphs: set[str]) -> list[GraphPart]:
        """The parts that write these graphs."""
        return [p for n, p in enumerate(self._all_parts()) if self._made[n] & graphs]

    def again(self, graphs: set[str], plan: PrecisionPlan, progress: Progress) -> None:
        """Write the parts of these graphs anew, by another plan."""
        self.plan = plan
        chosen = json.dumps([plan.overrides, plan.wide], sort_keys=True)
        stage = hashlib.sha256(chosen.encode()).hexdigest()[:16]
        progress.more(1)  # the certificate
        for number, part in enumerate(self._all_parts()):
            if not self._made[number] & graphs:
                continue
            for name in self._made[number]:  # a kept stage may share the file
                for ending in ("onnx", "onnx.data", "branches.onnx"):
                    (self._root / f"{name}.{ending}").unlink(missing_ok=True)
            progress.more(part.steps)
            self._take(number, self._lower(f"part-{number}-{stage}", part, progress))
        progress.more(sum(part.steps for part in self._parts.sharing))
        self._share(progress)

    def note(self, graph: str, text: str) -> None:
        """What the manifest says of a graph besides; the last text stays."""
        self._notes[graph] = text

    def _lower(self, stage: str, part: GraphPart, progress: Progress) -> Lowered:
        found = self._store.find(stage, self._root)
        if found is not None:
            progress.skip(part.steps, f"{', '.join(found.graphs)} from an earlier try")
            return found
        with self._store.keeping(stage, self._root) as results:
            results.append(part.lower(self._root, self.plan, progress))
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
        self._stage()
        if self._reference is None:
            return
        if self._store.find("probe", self._root) is not None:
            progress.skip(2, "source model from an earlier try")
            return
        with self._store.keeping("probe", self._root):
            self._reference.write(self._root, progress)

    def certify(self, progress: Progress) -> Certificate:
        """Run the probe through the graphs, in a child process: no engine is loaded here."""
        self._stage()
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
        written = self.writer.commit(lambda files: self._manifest(files, summary))
        self._store.forget()
        return written

    def _stage(self) -> None:
        self.writer.write_manifest(self.manifest())

    def manifest(self) -> Manifest:
        """Of the bundle as it is staged, its files without their hashes."""
        return self._manifest(self.writer.unhashed_files())

    def _manifest(
        self, files: dict[str, FileEntry], parity: ParitySummary | None = None
    ) -> Manifest:
        try:
            return make_manifest(
                replace(self._parts, sections={**self._parts.sections, **self._sections}),
                self.plan.default,
                self._capacity,
                self._noted(),
                self._weights,
                files,
                self._hashes,
                parity,
            )
        except ValidationError as exc:
            raise ExportError(f"the manifest does not hold together: {reason(exc)}") from exc

    def _noted(self) -> dict[str, GraphEntry]:
        return {
            name: entry.model_copy(update={"notes": (*entry.notes, *self._notes_of(name))})
            for name, entry in self._graphs.items()
        }

    def _notes_of(self, graph: str) -> tuple[str, ...]:
        return (self._notes[graph],) if graph in self._notes else ()
