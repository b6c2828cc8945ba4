"""Open a bundle: read the manifest, check every file, refuse what does not fit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from edgevlm.bundle.archive import unpack_once
from edgevlm.bundle.cache import HashRecord
from edgevlm.bundle.engines import FOLDER as ENGINES
from edgevlm.bundle.files import MANIFEST, check_name, list_files, sha256_file
from edgevlm.bundle.manifest import FORMAT_VERSION, Manifest, Segment
from edgevlm.errors import BundleCorrupt, BundleError, BundleVersion
from edgevlm.tensors import Array

Verify = Literal["always", "once", "size"]
_MANIFEST_CAP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle folder.

    Args:
        root: the folder.
        manifest: its parsed manifest.
    """

    root: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """SHA-256 of the canonical manifest."""
        return self.manifest.bundle_id

    def path(self, name: str) -> Path:
        """The path of a listed file.

        Raises:
            BundleCorrupt: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise BundleCorrupt(f"{self.root}: {name!r} is not in this bundle")
        return self.root / check_name(name)

    def read_text(self, name: str) -> str:
        """The text of a listed file.

        Raises:
            BundleCorrupt: it is not listed, or not UTF-8.
        """
        path = self.path(name)
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as exc:
            raise BundleCorrupt(f"{path} is not UTF-8 text: {exc}") from exc

    def read_json(self, name: str) -> Any:
        """The parsed content of a listed JSON file.

        Raises:
            BundleCorrupt: it is not listed, or not JSON.
        """
        try:
            return json.loads(self.read_text(name))
        except (ValueError, RecursionError) as exc:
            raise BundleCorrupt(f"{self.root}: {name} is not JSON: {exc}") from exc

    def array(self, segment: Segment) -> Array:
        """A read-only memory map of one array in a data file.

        Raises:
            BundleCorrupt: the segment reaches over the end of its file.
        """
        path = self.path(segment.file)
        end = segment.offset + segment.nbytes
        if end > path.stat().st_size:
            raise BundleCorrupt(f"{path}: an array ends at byte {end}, behind the end of the file")
        return np.memmap(path, segment.dtype, "r", segment.offset, segment.shape)


def read_manifest(root: Path) -> Manifest:
    """Parse ``manifest.json``.

    Raises:
        BundleError: the folder or its manifest is missing.
        BundleVersion: an unknown format version.
        BundleCorrupt: not JSON, or not the schema.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{root} is not a bundle (no {MANIFEST}); make one with: edgevlm export nano -o {root}"
        )
    if path.stat().st_size > _MANIFEST_CAP_BYTES:
        raise BundleCorrupt(f"{path} is larger than {_MANIFEST_CAP_BYTES} bytes")
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise BundleCorrupt(f"{path} is not JSON: {exc}") from exc
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise BundleVersion(
            f"{path} has format version {version!r}; this edgevlm reads version {FORMAT_VERSION}: "
            "export the model again or update edgevlm"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleCorrupt(f"{path}: {place}: {first['msg']}") from exc
    for name in manifest.files:
        check_name(name)
    return manifest


def check_files(
    root: Path, manifest: Manifest, verify: Verify, record: HashRecord | None = None
) -> None:
    """Compare the folder with the manifest, engines left out.

    Engines are derived: a damaged one must not keep the bundle from running on another backend,
    or from being built again. ``build_record`` checks one before it is loaded.

    Args:
        root: bundle folder.
        manifest: its manifest.
        verify: ``always`` hashes every file; ``once`` skips files that ``record`` has seen with
            the same inode, size and mtime; ``size`` compares names and sizes only.
        record: remembers hashed files between processes.

    Raises:
        BundleCorrupt: a missing, extra or changed file, named.
    """
    present = list_files(root)
    present.pop(MANIFEST, None)
    present = {n: s for n, s in present.items() if not n.startswith(f"{ENGINES}/")}
    listed = {n: e for n, e in manifest.files.items() if not n.startswith(f"{ENGINES}/")}
    for name in sorted(listed.keys() - present.keys()):
        raise BundleCorrupt(f"{root}: {name} is missing; export the bundle again")
    for name in sorted(present.keys() - listed.keys()):
        raise BundleCorrupt(f"{root}: {name} is not in the manifest; remove it or export again")
    for name, entry in sorted(listed.items()):
        status = present[name]
        if status.st_size != entry.size:
            raise BundleCorrupt(
                f"{root}: {name} has {status.st_size} bytes, the manifest says {entry.size}"
            )
        if verify == "size" or (
            verify == "once" and record is not None and record.seen(root / name, status, entry)
        ):
            continue
        if (found := sha256_file(root / name)) != entry.sha256:
            raise BundleCorrupt(
                f"{root}: {name} has sha256 {found[:12]}..., the manifest says "
                f"{entry.sha256[:12]}...; export the bundle again"
            )
        if record is not None:
            record.remember(root / name, status, entry)


def open_bundle(path: str | os.PathLike[str], verify: Verify = "once") -> Bundle:
    """Open a bundle folder, or a ``.evlm`` file (unpacked once into the cache).

    Raises:
        BundleError: nothing there, no bundle, or one that cannot be read.
        BundleVersion: an unknown format version.
        BundleCorrupt: files differ from the manifest.
    """
    try:
        return _open(Path(path), verify)
    except OSError as exc:
        raise BundleError(f"{path} cannot be read: {exc}") from exc


def _open(root: Path, verify: Verify) -> Bundle:
    if root.is_file():
        root = unpack_once(root)
    elif not root.exists():
        raise BundleError(
            f"{root} does not exist; make a bundle with: edgevlm export nano -o {root}"
        )
    manifest = read_manifest(root)
    record = HashRecord.open()
    check_files(root, manifest, verify, record)
    record.save()
    return Bundle(root, manifest)
