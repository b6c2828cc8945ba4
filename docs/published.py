"""What published checkpoints of the families cost: visual rows of a frame, and bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle.images import (
    AnyResolution,
    Fit,
    Idefics3Tiles,
    ImageSpec,
    InternVLTiles,
    Lfm2Tiles,
    NativePatches,
    Policy,
    SmartResize,
)
from edgevlm.bundle.manifest import Precision
from edgevlm.export.preflight import BYTES
from edgevlm.runtime.model.pictures import assemble, expand, prepare

FRAMES = ((640, 480), (1920, 1080))  # width, height


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint: its picture policy as its processor's settings give it.

    ``rows`` are those that one tile becomes, where all tiles have one size.
    """

    family: str
    name: str
    parameters: float
    policy: Policy
    rows: int = 0
    encoder: bool = False


def _stretched(side: int) -> Fit:
    return Fit(height=side, width=side, fit="stretch")


def _cut(side: int, shortest: int) -> Fit:
    return Fit(height=side, width=side, fit="shortest", shortest=shortest)


SMOL = Idefics3Tiles(longest=2048, tile=512)
SIDES = range(384, 2305, 384)
ONEVISION = AnyResolution(
    tile=384,
    side=27,
    most_tiles=9,
    canvases=tuple((high, wide) for high in SIDES for wide in SIDES),
)
INTERN = InternVLTiles(tile=448, least=1, most=12)
QWEN2 = SmartResize(patch=14, merge=2, least_pixels=3136, most_pixels=12845056, head_dim=80)
QWEN25 = SmartResize(
    patch=14, merge=2, least_pixels=3136, most_pixels=12845056, head_dim=80, window=112
)
QWEN3 = SmartResize(
    patch=16, merge=2, least_pixels=65536, most_pixels=16777216, head_dim=64, table_side=48
)
LFM2 = Lfm2Tiles(
    tile=512, least=2, most=10, thumbnail=False, patch=16, merge=2, least_tokens=64,
    most_tokens=256, tolerance=2.0, table_side=16,
)  # fmt: skip
SAM = Fit(height=1024, width=1024, fit="corner", zero_padding=True)

CHECKPOINTS = (
    Published("smolvlm", "SmolVLM2-256M-Video-Instruct", 256.5e6, SMOL, 64),
    Published("idefics3", "SmolVLM-256M-Instruct", 256.5e6, SMOL, 64),
    Published("llava_onevision", "llava-onevision-qwen2-0.5b-ov-hf", 894e6, ONEVISION, 27**2),
    Published("internvl", "InternVL3-1B-hf", 938e6, INTERN, 256),
    Published("fast_vlm", "FastVLM-0.5B", 759e6, _cut(1024, 1024), 256),
    Published("paligemma", "paligemma-3b-pt-224", 2.92e9, _stretched(224), 256),
    Published("qwen2_vl", "Qwen2-VL-2B-Instruct", 2.21e9, QWEN2),
    Published("qwen2_5_vl", "Qwen2.5-VL-3B-Instruct", 3.75e9, QWEN25),
    Published("qwen3_vl", "Qwen3-VL-2B-Instruct", 2.13e9, QWEN3),
    Published("lfm2_vl", "LFM2-VL-450M", 451e6, LFM2),
    Published("florence2", "Florence-2-base", 231e6, _stretched(768), 577),
    Published(
        "clip", "clip-vit-base-patch32", 151e6, _cut(224, 224), 50, encoder=True
    ),
    Published("siglip", "siglip-base-patch16-224", 203e6, _stretched(224), 196, encoder=True),
    Published(
        "siglip2", "siglip2-base-patch16-naflex", 375e6,
        NativePatches(patch=16, most_patches=256, table_side=16), encoder=True,
    ),
    Published("dinov2", "dinov2-base", 86.6e6, _cut(224, 256), 257, encoder=True),
    Published("sam", "sam-vit-base", 93.7e6, SAM, 4096, encoder=True),
)  # fmt: skip


def visual_rows(checkpoint: Published, width: int, height: int) -> int:
    """Rows that one frame becomes, by the runtime's own picture code; markers do not count."""
    spec = ImageSpec(policy=checkpoint.policy)
    prepared = prepare(np.zeros((height, width, 3), np.uint8), spec)
    if prepared.token_grid is not None:
        return prepared.token_grid[0] * prepared.token_grid[1]
    shown = [part for part in expand(prepared, spec) if isinstance(part, int)]
    if isinstance(checkpoint.policy, Lfm2Tiles):
        cell = checkpoint.policy.patch * checkpoint.policy.merge
        sides = (prepared.pixels[n].shape for n in shown)
        return sum((side[0] // cell) * (side[1] // cell) for side in sides)
    features = np.zeros((len(prepared.pixels), checkpoint.rows, 1), np.float32)
    segments = assemble(prepared, spec, features, np.zeros(1, np.float32))
    return sum(len(segments[n]) for n in shown)


def megabytes(checkpoint: Published, precision: Precision) -> int | None:
    """What the weights take in a bundle, as the exporter estimates it; None: no such precision."""
    if checkpoint.encoder and precision == "int4":
        return None
    return round(checkpoint.parameters * BYTES[precision] / 1e6)


def table() -> list[list[str]]:
    """A header, and a row for every checkpoint."""
    precisions = tuple(BYTES)
    frames = [f"{width}x{height}" for width, height in FRAMES]
    rows = [["family", "checkpoint", "parameters", *frames, *(f"{p}, MB" for p in precisions)]]
    for one in CHECKPOINTS:
        tokens = [str(visual_rows(one, *frame)) for frame in FRAMES]
        sizes = [megabytes(one, precision) for precision in precisions]
        millions = one.parameters / 1e6
        count = f"{millions:.0f} M" if millions < 1000 else f"{millions / 1000:.2f} B"
        shown = ["-" if size is None else str(size) for size in sizes]
        rows.append([one.family, one.name, count, *tokens, *shown])
    return rows
