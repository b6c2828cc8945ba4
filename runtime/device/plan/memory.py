"""Bytes that a model takes while it is built and while it runs. Pure functions.

A build holds the weights several times over, and its largest allocation is one tactic's workspace
for the largest weight: ``engines.toml`` names the reports that its factors come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgevlm.bundle.manifest import Precision
from edgevlm.cost import CostSheet, PictureSetting
from edgevlm.runtime.device.plan.engines import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Megabytes (10^6 bytes), contiguous ones in MiB as ``cma=`` has them.

    Args:
        weights_mb: of all graphs and the embedding table.
        cache_mb: of a full cache.
        activations_mb: most that lives at once, of the stage that needs most.
        run_mb: all of it and the process.
        build_mb: peak while engines are built; 0 where nothing is built.
        run_contiguous_mib: largest single allocation while it runs.
        build_contiguous_mib: largest single allocation of a build.
        largest: name and shape of the weight behind both.
    """

    weights_mb: float
    cache_mb: float
    activations_mb: float
    run_mb: float
    build_mb: float
    run_contiguous_mib: float
    build_contiguous_mib: float
    largest: str


def memory(
    sheet: CostSheet,
    setting: PictureSetting | None,
    precision: Precision,
    engine: Engine,
    *,
    context: int,
    prompt: int,
    encoder_count: float,
) -> Memory:
    """What a model needs.

    Args:
        sheet: the model.
        setting: how pictures are encoded; None for text models.
        precision: of the weights.
        engine: that runs it.
        context: tokens that the cache holds.
        prompt: tokens of the longest call.
        encoder_count: tiles or patches of one call of the vision encoder.
    """
    graphs = [g for g in (setting and setting.vision, sheet.encoder, sheet.decoder) if g]
    total = sum(g.weights.total[precision] for g in graphs)
    table = sheet.embedding.get(precision, 0)
    cache = (context * sheet.kv_values_per_token + sheet.state_values) * engine.value_bytes
    counts = [encoder_count if g.unit in ("tiles", "patches") else prompt for g in graphs]
    peaks = [g.fused_peak_values if engine.fused else g.peak_values for g in graphs]
    alive = max((peak.at(n) for peak, n in zip(peaks, counts, strict=True)), default=0.0)
    activations = alive * engine.value_bytes
    largest = max(graphs, key=lambda g: g.weights.largest[precision])
    biggest = float(largest.weights.largest[precision])
    into = max(g.weights.total[precision] for g in graphs)  # one graph at a time
    half = max(biggest, 2.0 * math.prod(largest.weights.shape))  # tactics compute in float16
    build = engine.build_factor * into + engine.build_base_mb * 1e6 if engine.build_factor else 0.0
    return Memory(
        weights_mb=(total + table) / 1e6,
        cache_mb=cache / 1e6,
        activations_mb=activations / 1e6,
        run_mb=footprint_mb(
            weights=total + table,
            cache=cache,
            activations=activations,
            process_mb=engine.process_mb,
        ),
        build_mb=build / 1e6,
        run_contiguous_mib=max(biggest, activations, float(table)) / 2**20,
        build_contiguous_mib=engine.tactic_factor * half / 2**20,
        largest=f"{largest.weights.name} {'x'.join(map(str, largest.weights.shape))}".strip(),
    )


def footprint_mb(*, weights: float, cache: float, activations: float, process_mb: float) -> float:
    """Megabytes of a running model from the bytes of its parts, and its process."""
    return (weights + cache + activations) / 1e6 + process_mb
