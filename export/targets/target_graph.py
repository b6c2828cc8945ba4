"""What a lowering for an engine leaves: a graph, and what its compiler must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.manifest import TensorEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGraph:
    """One graph, ready to be compiled.

    Inputs and outputs are float32, float16 (keys and values), int64 or uint8, whatever the
    precision is.

    Args:
        name: its key in the manifest's ``graphs``.
        path: the ONNX file; its weights lie beside it.
        inputs: in the graph's order.
        outputs: likewise.
        aliases: output -> input that it shares its buffer with.
        ranges: free dimension -> smallest, most frequent and largest size.
        precision: of its products.
        lowering: what the decoder was lowered to.
        notes: what the precision costs, for the certificate.
    """

    name: str
    path: Path
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    aliases: Mapping[str, str]
    ranges: Mapping[str, tuple[int, int, int]]
    precision: str
    lowering: str
    notes: tuple[str, ...]
