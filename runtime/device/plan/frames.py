"""What one camera frame becomes: tiles or patches for the encoder, rows for the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle.images import Lfm2Tiles, NativePatches, SmartResize
from edgevlm.cost import PictureSetting
from edgevlm.errors import ConfigError
from edgevlm.runtime.model.pictures import assemble, expand, prepare

MARKER_TOKENS = 3  # written around one tile, as a rule of thumb


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCost:
    """One frame under one setting.

    Args:
        calls: how often the encoder runs, each with ``count`` tiles or patches.
        count: of one call.
        rows: that go through a layer of the encoder together.
        visual_tokens: rows that reach the decoder.
        marker_tokens: text that stands around them.
        pixels: that the encoder sees.
    """

    calls: int
    count: int
    rows: int
    visual_tokens: int
    marker_tokens: int
    pixels: int


def frame_cost(setting: PictureSetting, width: int, height: int) -> FrameCost:
    """Prepare a frame as the runtime would, and count.

    Args:
        setting: how pictures are encoded.
        width: of the frame, pixels.
        height: likewise.

    Raises:
        ConfigError: a frame that the family's picture policy does not take.
    """
    spec, policy = setting.image, setting.image.policy
    try:
        prepared = prepare(np.zeros((height, width, 3), np.uint8), spec)
    except ValueError as exc:
        raise ConfigError(f"--frame {width}x{height}: {exc}") from exc
    shown = [part for part in expand(prepared, spec) if isinstance(part, int)]
    markers = MARKER_TOKENS * len(shown)
    pixels = sum(tile.shape[0] * tile.shape[1] for tile in prepared.pixels)
    if isinstance(policy, SmartResize | Lfm2Tiles | NativePatches):
        patches = pixels // policy.patch**2
        tokens = patches // getattr(policy, "merge", 1) ** 2
        calls = len(prepared.pixels)
        count = patches // calls
        return FrameCost(
            calls=calls, count=count, rows=count, visual_tokens=tokens, marker_tokens=markers,
            pixels=pixels,
        )  # fmt: skip
    tiles = len(prepared.pixels)
    features = np.zeros((tiles, setting.rows_per_tile, 1), np.float32)
    segments = assemble(prepared, spec, features, np.zeros(1, np.float32))
    tokens = sum(len(segments[n]) for n in shown) if setting.rows_per_tile else 0
    return FrameCost(
        calls=1, count=tiles, rows=_rows(setting, tiles), visual_tokens=tokens,
        marker_tokens=markers, pixels=pixels,
    )  # fmt: skip


def _rows(setting: PictureSetting, tiles: int) -> int:
    """Rows of the encoder's products: the work of a tile over that of one row of its weights."""
    matmul, count = setting.vision.work.get("matmul"), setting.vision.weights.count
    if matmul is None or not count:
        return tiles
    return max(tiles, round(matmul.flops.at(tiles) / (2.0 * count)))
