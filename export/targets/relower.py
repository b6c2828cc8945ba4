"""A bundle in, graphs for TensorRT out: no torch, no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from edgevlm.bundle import Bundle
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.errors import ConfigError
from edgevlm.export.progress import Progress, Report
from edgevlm.export.targets.decoder import NAME, DecoderTarget, check_decoder, lower_decoder
from edgevlm.export.targets.element_types import PRODUCTS
from edgevlm.export.targets.forms import default_precision
from edgevlm.export.targets.seq2seq import lower_seq2seq_decoder
from edgevlm.export.targets.stored import lower_stored
from edgevlm.export.targets.target_graph import TargetGraph

__all__ = ["TargetGraph", "TargetPrecision", "relower"]

TargetPrecision = Literal["fp32", "fp16", "bf16", "int8", "int4"]


def relower(
    bundle: Bundle,
    lowering: StaticLowering,
    precision: TargetPrecision | None,
    into: Path,
    report: Report = lambda _done, _total, _what: None,
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
    manifest = bundle.manifest
    chosen = precision or default_precision(manifest.precision, lowering)
    if chosen not in PRODUCTS:
        raise ConfigError(f"--precision {chosen}: one of {', '.join(get_args(TargetPrecision))}")
    others = [name for name in manifest.graphs if name != NAME]
    steps = len(others)
    if manifest.decoder is not None:
        steps += check_decoder(bundle).num_layers + 1
    elif NAME in manifest.graphs:
        steps += 1
    progress = Progress(steps, report)
    found = {}
    for name in others:
        found[name] = lower_stored(bundle, name, lowering, chosen, into)
        progress.step(name)
    target = DecoderTarget(lowering=lowering, precision=chosen)
    if manifest.decoder is not None:
        found[NAME] = lower_decoder(bundle, target, into, progress)
    elif NAME in manifest.graphs:
        found[NAME] = lower_seq2seq_decoder(bundle, target, into)
        progress.step(NAME)
    return found
