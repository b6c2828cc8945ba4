"""Finished stages of an interrupted export, kept by the hash of what they were made from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.cache import cache_folder
from edgevlm.bundle.files import link_or_copy, list_files, sha256_file
from edgevlm.bundle.manifest import GraphEntry, WeightEntry
from edgevlm.export.model_parts import ExportOptions, Lowered

RESULT = "result.json"
SMALL = (".json", ".jinja", ".txt", ".model")  # what a checkpoint holds besides its weights
LIBRARIES = ("edgevlm", "onnx", "numpy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class StageStore:
    """Stages of one export under ``EDGEVLM_CACHE``; without ``--resume`` it keeps nothing.

    Args:
        folder: of this export's stages, named by the hash; None keeps and finds nothing.
    """

    folder: Path | None

    @classmethod
    def open(
        cls, options: ExportOptions, weight_files: Sequence[Path], hashes: Mapping[str, str]
    ) -> StageStore:
        """The store of an export: of these weights, what lies beside them, and the options."""
        if not options.resume:
            return cls(None)
        folders = sorted({path.parent for path in weight_files})
        beside = [p for f in folders for p in sorted(f.iterdir()) if p.suffix in SMALL]
        if options.check_images is not None:
            beside += sorted(p for p in options.check_images.iterdir() if p.is_file())
        contents = [(path.name, sha256_file(path)) for path in beside]
        chosen = {name: str(getattr(options, name)) for name in options.__dataclass_fields__}
        for later in ("force", "resume", "allow_drift", "repair_budget"):
            chosen.pop(later)
        versions = [_version(name) for name in LIBRARIES]
        key = json.dumps([chosen, dict(hashes), contents, versions], sort_keys=True)
        return cls(cache_folder() / "exports" / hashlib.sha256(key.encode()).hexdigest()[:32])

    def find(self, stage: str, root: Path) -> Lowered | None:
        """Put a finished stage's files into ``root``; None if it is not finished, or damaged."""
        kept = self._of(stage)
        if kept is None or not (kept / RESULT).is_file():
            return None
        try:
            result = json.loads((kept / RESULT).read_text("utf-8"))
            sizes = {name: (kept / name).stat().st_size for name in result["files"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if sizes != result["files"]:
            return None
        for name in sizes:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(kept / name, root / name)
        return Lowered(
            {name: GraphEntry.model_validate(g) for name, g in result["graphs"].items()},
            {name: WeightEntry.model_validate(w) for name, w in result["weights"].items()},
        )

    @contextmanager
    def keeping(self, stage: str, root: Path) -> Iterator[list[Lowered]]:
        """Keep what the block adds to ``root``; it appends what it lowered to the list."""
        before = set(list_files(root))
        results: list[Lowered] = []
        yield results
        kept = self._of(stage)
        if kept is None:
            return
        shutil.rmtree(kept, ignore_errors=True)
        files = sorted(set(list_files(root)) - before)
        for name in files:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(root / name, kept / name)
        kept.mkdir(parents=True, exist_ok=True)
        lowered = results[0] if results else Lowered({})
        result = {
            "files": {name: (kept / name).stat().st_size for name in files},
            "graphs": {n: g.model_dump(mode="json") for n, g in lowered.graphs.items()},
            "weights": {n: w.model_dump(mode="json") for n, w in lowered.weights.items()},
        }
        waiting = kept / f"{RESULT}.tmp"
        waiting.write_text(json.dumps(result), "utf-8")
        waiting.replace(kept / RESULT)  # last: a stage without it is not finished

    def forget(self) -> None:
        """Remove every stage: the bundle is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _of(self, stage: str) -> Path | None:
        return None if self.folder is None else self.folder / stage


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
