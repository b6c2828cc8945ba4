"""The files of a lowered graph, and what they hash to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx


def graph_files(path: Path) -> list[Path]:
    """An ONNX file and the data files that it names, in the order of their names."""
    model = onnx.load(str(path), load_external_data=False)
    names = {
        pair.value
        for tensor in model.graph.initializer
        for pair in tensor.external_data
        if pair.key == "location"
    }
    return [path, *(path.parent / name for name in sorted(names))]


def graph_hash(path: Path) -> str:
    """SHA-256 over a graph and its weights."""
    digest = hashlib.sha256()
    for file in graph_files(path):
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
