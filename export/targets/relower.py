"""A bundle in, graphs for TensorRT out: no torch, no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevlm.bundle import Bundle
from edgevlm.bundle.manifest import TensorEntry
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.errors import ExportError
from edgevlm.export.progress import Report

TargetPrecision = Literal["fp32", "fp16", "bf16", "int8", "int4"]


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


def relower(
    bundle: Bundle,
    lowering: StaticLowering,
    precision: TargetPrecision | None,
    into: Path,
    report: Report = lambda _done, _total, _what: None,  # noqa: ARG001
) -> dict[str, TargetGraph]:
    """Write every graph of a bundle in the operators of a target.

    Args:
        bundle: to be lowered again.
        lowering: ``onnx-std`` (TensorRT from 10.15 on, TensorRT-RTX) or ``trt10-compat``.
        precision: of the products; None keeps what the target can keep: symmetric 4-bit and
            8-bit blocks stay, everything else becomes fp16.
        into: an existing folder.
        report: called after every step with ``(done, total, what)``.

    Returns:
        the graphs by their key in the manifest.

    Raises:
        ExportError: a graph that has no lowering, with the reason.
        ConfigError: a precision that the target does not take.
    """
    raise ExportError(
        f"{bundle.root}: no graph is lowered to {lowering} ({precision}) yet; nothing in {into}"
    )
