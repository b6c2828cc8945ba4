"""Which engines this device made, and the rule by which an engine is loaded.

An engine is machine code in a format that does not defend itself against what it is fed. So one is
loaded only if ``edgevlm build`` made it on this device, which a record in the user's cache says,
or if the user vouches for it with ``--trust-engines``.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from edgevlm.bundle.cache import cache_folder
from edgevlm.bundle.engines import EngineEntry, Platform
from edgevlm.bundle.files import sha256_file
from edgevlm.bundle.reader import Bundle
from edgevlm.errors import (
    BackendUnavailable,
    BundleCorrupt,
    BundleError,
    EngineMismatch,
    EngineUntrusted,
)


def record_path() -> Path:
    """The record of this user on this device."""
    return cache_folder() / "built-engines.json"


def built_here() -> dict[str, str]:
    """SHA-256 of every engine that this device made -> what it is.

    A record that is missing or damaged vouches for nothing.
    """
    try:
        loaded = json.loads(record_path().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {k: v for k, v in loaded.items() if isinstance(v, str)}


def record_built(made: dict[str, str]) -> None:
    """Note engines that this device just made: SHA-256 -> what it is.

    Raises:
        BundleError: the record cannot be written.
    """
    path = record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix="built-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(built_here() | made, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as exc:
        raise BundleError(f"this device's build record {path} cannot be written: {exc}") from exc


def find_engine(
    bundle: Bundle, target: str, graph: str, here: Platform, *, trust: bool = False
) -> tuple[Path, EngineEntry]:
    """The engine of a graph, once it is known to be intact, fit for this machine, and trusted.

    Args:
        bundle: an opened one.
        target: as given to ``edgevlm build --target``.
        graph: its name in the manifest.
        here: this machine.
        trust: the user vouches for it.

    Raises:
        BackendUnavailable: the bundle has no such engine.
        EngineMismatch: it was compiled for another machine or bundle, and the field is named; or
            its file is not the one that was built.
        EngineUntrusted: this device did not make it, and ``trust`` is not set.
    """
    build = f"edgevlm build {bundle.root} --target {target}"
    made = bundle.manifest.engines.get(target)
    entry = made.graphs.get(graph) if made is not None else None
    if entry is None:
        there = ", ".join(bundle.manifest.engines) or "none"
        raise BackendUnavailable(
            f"{bundle.root} has no engine of {graph} for {target} (engines for: {there}); {build}"
        )
    if reasons := entry.key.unfit(bundle.id, here):
        raise EngineMismatch(
            f"{entry.file} does not fit this machine: {'; '.join(reasons)}; "
            f"build it again with: {build} --force"
        )
    if damage := engine_damage(bundle, entry):
        raise EngineMismatch(f"{damage}; build it again with: {build} --force")
    path, digest = bundle.path(entry.file), bundle.manifest.files[entry.file].sha256
    if not trust and digest not in built_here():
        raise EngineUntrusted(
            f"{path} was not made on this device, and an engine is code: build it here with: "
            f"{build} --force, or load it with --trust-engines if you know who made it"
        )
    return path, entry


def engine_damage(bundle: Bundle, entry: EngineEntry) -> str | None:
    """How an engine's file differs from what was built; None if it does not."""
    path, listed = bundle.path(entry.file), bundle.manifest.files[entry.file]
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != listed.size:
        return f"{path} has {size} bytes, the manifest says {listed.size}"
    if (digest := sha256_file(path)) != listed.sha256:
        return f"{path} has sha256 {digest[:12]}..., the manifest says {listed.sha256[:12]}..."
    return None


def check_engines(bundle: Bundle) -> int:
    """Hash every engine of a bundle, and say how many there are.

    Raises:
        BundleCorrupt: the first that is missing or changed, with how to build it again.
    """
    count = 0
    for target, made in bundle.manifest.engines.items():
        for entry in made.graphs.values():
            if damage := engine_damage(bundle, entry):
                raise BundleCorrupt(
                    f"{damage}; build it again with: "
                    f"edgevlm build {bundle.root} --target {target} --force"
                )
            count += 1
    return count
