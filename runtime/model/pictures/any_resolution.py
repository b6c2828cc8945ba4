"""LLaVA-OneVision: the best of several canvases in tiles, and what is made of their features."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import AnyResolution, ImageSpec
from edgevlm.errors import BundleCorrupt
from edgevlm.runtime.model.pictures.fit import padded_square, resized
from edgevlm.runtime.model.pictures.interpolate import bilinear_matrix
from edgevlm.runtime.model.pictures.prepared import Prepared, cut, size_of
from edgevlm.tensors import Float32

UInt8 = NDArray[np.uint8]
SMALLER = 1.1  # canvases are scaled down only if their side is this much too long


def prepare(
    image_rgb: UInt8, spec: ImageSpec, policy: AnyResolution, images_in_prompt: int
) -> Prepared:
    """Cut as transformers' ``LlavaOnevisionImageProcessorPil`` does."""
    source, tile = size_of(image_rgb), policy.tile
    if images_in_prompt > 1:
        square = padded_square(image_rgb, policy.background)
        return Prepared(pixels=(resized(square, tile, tile, spec),), source=source)
    whole = resized(image_rgb, tile, tile, spec)
    height, width = _best_canvas(*source, policy.canvases)
    inner = _inside(*source, height, width)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resized(image_rgb, *inner, spec)
    return Prepared(
        pixels=(whole, *cut(canvas, tile, tile)),
        rows=height // tile,
        columns=width // tile,
        whole=0,
        source=source,
    )


def assemble(
    prepared: Prepared, policy: AnyResolution, features: Float32, newline: Float32 | None
) -> Float32:
    """One run of visual rows: the whole picture, then the canvas row by row.

    Args:
        prepared: the picture.
        policy: rows along a tile's side, and how many tiles of them there may be.
        features: float32 ``(tiles, side * side, hidden_size)``, the whole picture first.
        newline: float32 ``(hidden_size,)``.

    Returns:
        float32 ``(rows, hidden_size)``.

    Raises:
        BundleCorrupt: the bundle has no newline vector.
    """
    if newline is None:
        raise BundleCorrupt("the bundle lacks the weight image_newline, which this policy needs")
    whole, width = features[0], features.shape[-1]
    if len(features) == 1:
        return np.concatenate([whole, newline[None]])
    side = policy.side
    grid = features[1:].reshape(prepared.rows, prepared.columns, side, side, width)
    canvas = grid.transpose(0, 2, 1, 3, 4).reshape(prepared.rows * side, -1, width)
    canvas = _without_padding(canvas, *prepared.source)
    if policy.most_tiles is not None:
        high, wide = canvas.shape[:2]
        ratio = math.sqrt(high * wide / (policy.most_tiles * side**2))
        if ratio > SMALLER:
            rows = bilinear_matrix(high, int(high // ratio))
            columns = bilinear_matrix(wide, int(wide // ratio))
            canvas = np.einsum("ah,bw,hwd->abd", rows, columns, canvas, optimize=True)
    ends = np.broadcast_to(newline, (len(canvas), 1, width))
    lines = np.concatenate([canvas, ends], axis=1).reshape(-1, width)
    return np.concatenate([whole, lines])


def _best_canvas(height: int, width: int, canvases: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The canvas that keeps most pixels, and of those the one that wastes least."""

    def worth(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(canvases, key=worth)


def _inside(height: int, width: int, high: int, wide: int) -> tuple[int, int]:
    across, down = wide / width, high / height
    if across < down:
        return min(math.ceil(height * across), high), wide
    return high, min(math.ceil(width * down), wide)


def _without_padding(canvas: Float32, height: int, width: int) -> Float32:
    high, wide = canvas.shape[:2]
    if width / height > wide / high:
        padding = (high - int(round(height * (wide / width), 7))) // 2
        return canvas[padding : high - padding]
    padding = (wide - int(round(width * (high / height), 7))) // 2
    return canvas[:, padding : wide - padding]
