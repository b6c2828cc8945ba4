"""Write a bundle so that it is there whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from edgevlm.bundle.archive import pack
from edgevlm.bundle.files import MANIFEST, fsync_tree, list_files, sha256_file
from edgevlm.bundle.manifest import Manifest
from edgevlm.bundle.provenance import FileEntry
from edgevlm.errors import BundleExists, ExportError


class BundleWriter:
    """A temporary folder that becomes the bundle on ``commit``, and vanishes otherwise.

    Args:
        target: the bundle folder, or a path ending in ``.evlm`` for the zip.
        force: replace what is there.

    Raises:
        BundleExists: the target is there and ``force`` is False, or it is no bundle.

    ::

        with BundleWriter(target) as writer:
            ...write files under writer.root...
            writer.commit(manifest_of)
    """

    def __init__(self, target: Path, force: bool = False) -> None:
        self.target = target
        if target.exists():
            if not force:
                raise BundleExists(f"{target} is already there; replace it with --force")
            if not self.replaceable(target):
                raise BundleExists(f"{target} holds something that is not a bundle; move it away")
        self._made: list[Path] = []
        try:
            for folder in reversed([target.parent, *target.parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    self._made.append(folder)
            self.root = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        except OSError as exc:
            self._forget_folders()
            raise ExportError(f"{target} cannot be written: {exc}") from exc
        self.root.chmod(0o755)

    @staticmethod
    def replaceable(target: Path) -> bool:
        """True for a bundle, packed or not, and for an empty folder."""
        if target.is_dir():
            return (target / MANIFEST).is_file() or not any(target.iterdir())
        return target.suffix == ".evlm" and zipfile.is_zipfile(target)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self._forget_folders()

    def _forget_folders(self) -> None:
        """Remove the folders that were made here, unless a bundle lies in them now."""
        for folder in reversed(self._made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def files(self) -> dict[str, FileEntry]:
        """Size and hash of every file written so far, the manifest left out."""
        return {
            name: FileEntry(size=status.st_size, sha256=sha256_file(self.root / name))
            for name, status in sorted(list_files(self.root).items())
            if name != MANIFEST
        }

    def unhashed_files(self) -> dict[str, FileEntry]:
        """Size of every file written so far: for a manifest that only this export reads."""
        return {
            name: FileEntry(size=status.st_size, sha256="0" * 64)
            for name, status in sorted(list_files(self.root).items())
            if name != MANIFEST
        }

    def write_manifest(self, manifest: Manifest) -> None:
        """Write ``manifest.json`` into the temporary folder."""
        text = manifest.model_dump_json(indent=1, exclude_none=False)
        (self.root / MANIFEST).write_text(text + "\n", "utf-8")

    def commit(self, make_manifest: Callable[[dict[str, FileEntry]], Manifest]) -> Manifest:
        """Hash the files, write the manifest, flush everything, and move it into place."""
        manifest = make_manifest(self.files())
        self.write_manifest(manifest)
        self.publish()
        return manifest

    def publish(self) -> None:
        """Flush everything, and move it into place."""
        fsync_tree(self.root)
        if self.target.suffix == ".evlm":
            pack(self.root, self.target)
        else:
            self._replace_folder()

    def _replace_folder(self) -> None:
        if not self.target.exists():
            self.root.replace(self.target)
            return
        holder = Path(tempfile.mkdtemp(dir=self.target.parent, prefix=f".{self.target.name}-old-"))
        old = self.target.replace(holder / "bundle")
        try:
            self.root.replace(self.target)
        except BaseException:
            old.replace(self.target)
            raise
        finally:
            shutil.rmtree(holder, ignore_errors=True)
