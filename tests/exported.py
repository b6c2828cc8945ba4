"""Bundles that many tests read: made by the real exporter, once for each state of its sources.

They lie in the machine's folder for temporary files under a hash of all that the graphs are made
from, so that test processes side by side, and the next run, share them. Nobody writes into them.
Their certificates were measured by the runtime of the day they were made; a machine with an empty
folder, as that of continuous integration is, measures them anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export

ROOT = Path(__file__).parent.parent
SOURCES = ("export", "edgevlm/bundle", "edgevlm/parity.py")
LIBRARIES = ("numpy", "onnx", "onnxruntime", "gguf", "tokenizers", "pydantic")
STATES_KEPT = 12


@cache
def _state() -> str:
    """A hash of the exporter's sources and of the libraries that it runs on."""
    digest = hashlib.sha256(repr([sys.version, *map(version, LIBRARIES)]).encode())
    for top in SOURCES:
        path = ROOT / top
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def nano_bundle(name: str, options: ExportOptions) -> Bundle:
    """The built-in model, exported with ``options``; ``name`` stands for them."""
    folder = Path(tempfile.gettempdir()) / f"edgevlm-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / _state() / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _forget_old_states(folder)
        if not (target / "manifest.json").is_file():
            target.parent.mkdir(exist_ok=True)
            export("nano", target, options)
        os.utime(target.parent)
    return open_bundle(target)


def _forget_old_states(folder: Path) -> None:
    states = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for old in states[:-STATES_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
