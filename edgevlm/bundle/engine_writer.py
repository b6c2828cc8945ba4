"""Put engines into a bundle so that they are there whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.build_record import record_built
from edgevlm.bundle.engines import FOLDER, EngineEntry, TargetEngines, target_folder
from edgevlm.bundle.files import MANIFEST, fsync_tree, list_files, sha256_file
from edgevlm.bundle.manifest import Manifest
from edgevlm.bundle.provenance import FileEntry
from edgevlm.bundle.reader import open_bundle
from edgevlm.errors import BundleError, BundleExists
from edgevlm.parity import BackendParity


@dataclass(frozen=True, slots=True)
class NewEngine:
    """A compiled file in the writer's folder, and what it is; ``entry.file`` is not known yet."""

    path: Path
    entry: EngineEntry


class EngineWriter:
    """A temporary folder whose engines become the target's on ``commit``, and vanish otherwise.

    An engine's file is named after its content, so nothing that the old manifest names is written
    over: whenever this process dies, the bundle is the old one or the new one.

    Args:
        root: a bundle folder.
        target: as given to ``--target``.
        force: replace the target's engines.

    Raises:
        BundleExists: the target has engines and ``force`` is False.
        BundleError: another build is at work, the folder cannot be written, or it is no bundle.
    """

    def __init__(self, root: Path, target: str, force: bool = False) -> None:
        self._target = target
        try:
            self._lock = os.open(root, os.O_RDONLY)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.bundle = open_bundle(root)
                if target in self.bundle.manifest.engines and not force:
                    raise BundleExists(
                        f"{root} has engines for {target} already; replace them with --force"
                    )
                (root / FOLDER).mkdir(exist_ok=True)
                self.root = Path(tempfile.mkdtemp(dir=root / FOLDER, prefix=".build-"))
            except BaseException:
                os.close(self._lock)
                raise
        except BlockingIOError as exc:
            raise BundleError(f"another build is at work on {root}") from exc
        except OSError as exc:
            raise BundleError(f"{root} cannot take engines: {exc}") from exc

    def __enter__(self) -> EngineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self._drop_empty_folders(self.bundle.root / FOLDER)
        os.close(self._lock)

    def commit(
        self,
        made: Mapping[str, NewEngine],
        parity: BackendParity,
        *,
        here: bool,
        lowered: BackendParity | None = None,
    ) -> Manifest:
        """Note the engines in the build record, move them in, and rewrite the manifest last.

        Args:
            made: graph -> its engine.
            parity: what is known of their results.
            here: they were compiled on the device that they are for.
            lowered: what is known of the graphs that they were compiled from.

        Raises:
            BundleError: the record, or the folder, cannot be written.
        """
        try:
            entries, files = self._move_in(made)
            compiled = TargetEngines(
                built="here" if here else "ahead-of-time",
                parity=parity,
                lowered=lowered,
                graphs=entries,
            )
            return self._rewrite(compiled, files)
        except OSError as exc:
            raise BundleError(f"{self.bundle.root} cannot take the engines: {exc}") from exc

    def _move_in(
        self, made: Mapping[str, NewEngine]
    ) -> tuple[dict[str, EngineEntry], dict[str, FileEntry]]:
        """Give every engine its name and its place: nobody sees it before the manifest does."""
        fsync_tree(self.root)
        root, folder = self.bundle.root, target_folder(self._target)
        entries, files, moves = {}, {}, {}
        for graph, new in made.items():
            digest = sha256_file(new.path)
            file = f"{folder}/{graph.replace('/', '-')}-{digest[:12]}{new.path.suffix}"
            entries[graph] = new.entry.model_copy(update={"file": file})
            files[file] = FileEntry(size=new.path.stat().st_size, sha256=digest)
            moves[file] = new.path
        record_built({f.sha256: f"{self._target} {name}" for name, f in files.items()})
        (root / folder).mkdir(exist_ok=True)
        for file, path in moves.items():
            path.replace(root / file)
        fsync_tree(root / folder)
        return entries, files

    def _rewrite(self, compiled: TargetEngines, files: Mapping[str, FileEntry]) -> Manifest:
        old, folder = self.bundle.manifest, target_folder(self._target)
        kept = {n: f for n, f in old.files.items() if not n.startswith(f"{folder}/")}
        manifest = Manifest.model_validate(
            old.model_dump()
            | {
                "engines": {**old.engines, self._target: compiled},
                "files": dict(sorted({**kept, **files}.items())),
            }
        )
        self._replace_manifest(manifest)
        self._sweep(manifest)
        return manifest

    def _replace_manifest(self, manifest: Manifest) -> None:
        staged = self.root / MANIFEST
        with staged.open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=1, exclude_none=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.bundle.root / MANIFEST)
        os.fsync(self._lock)  # the bundle's folder

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what the manifest no longer names, and what killed builds left."""
        root = self.bundle.root
        for name in list_files(root / FOLDER):
            if f"{FOLDER}/{name}" not in manifest.files:
                (root / FOLDER / name).unlink()

    @staticmethod
    def _drop_empty_folders(folder: Path) -> None:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
