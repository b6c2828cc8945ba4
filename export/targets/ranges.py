"""How large the free dimensions of encoders and heads become, from what the manifest says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgevlm.bundle import Manifest
from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.images import Fit, ImageSpec, Lfm2Tiles, NativePatches, SmartResize
from edgevlm.bundle.matching import GRAPH as MATCHING
from edgevlm.bundle.matching import PATCHES_AT_ONCE
from edgevlm.errors import ExportError

Range = tuple[int, int, int]
TILES_AT_ONCE = 4  # of the runtime, which cuts a picture of more tiles into calls
TYPICAL_PIXELS = 640 * 480
STRETCH = 2.0  # sides at the whole budget of pixels: up to twice as long as high
TEXTS, PROMPTS, POINTS = (1, 1, 64), (1, 1, 16), (1, 2, 16)


def ranges_of(name: str, inputs: Sequence[TensorEntry], manifest: Manifest) -> dict[str, Range]:
    """Smallest, most frequent and largest size of every free dimension of a graph's inputs.

    Args:
        name: of the graph.
        inputs: of it.
        manifest: of its bundle.

    Raises:
        ExportError: a free dimension of no known meaning.
    """
    known: dict[str, Range] = {"prompts": PROMPTS, "n": POINTS, "batch": (1, 1, 1)}
    if name == "text" and manifest.text is not None:
        most = manifest.text.context_length
        known |= {"batch": TEXTS, "tokens": (1, most, most)}
        if manifest.text.padding == "context":
            known["tokens"] = (most, most, most)
    if manifest.seq2seq is not None and name in ("encoder", "decoder"):
        most = manifest.seq2seq.source_capacity
        tokens = manifest.visual_tokens.count if manifest.visual_tokens else most // 2
        known["rows"] = (1, min(tokens + 32, most), most)
    if name == "vision" and manifest.image is not None:
        known |= _picture(manifest.image)
    if name == MATCHING and manifest.matching is not None:
        most = min(manifest.matching.rows * manifest.matching.columns, PATCHES_AT_ONCE)
        known["patches"] = (1, most, most)
    free = {d for t in inputs for d in t.shape if isinstance(d, str)}
    if odd := sorted(free - known.keys()):
        raise ExportError(f"{name}: free dimensions of no known size: {', '.join(odd)}")
    return {dim: known[dim] for dim in sorted(free)}


def limits(image: ImageSpec) -> tuple[str, ...]:
    """Which pictures a vision graph of native resolution takes, in words."""
    sides = _sides(image)
    if sides is None:
        return ()
    return (f"pictures of native resolution: no side over {sides[2]} pixels when resized",)


def _picture(image: ImageSpec) -> dict[str, Range]:
    tiles = 1 if isinstance(image.policy, Fit) else TILES_AT_ONCE
    found: dict[str, Range] = {"tiles": (1, 1, tiles)}
    sides, policy = _sides(image), image.policy
    if sides is None or not isinstance(policy, SmartResize | Lfm2Tiles | NativePatches):
        return found
    grid = [side // policy.patch for side in sides]
    squares = [side**2 for side in grid]
    found |= {"height": sides, "width": sides}
    found |= {"rows": _three(grid), "columns": _three(grid), "patches": _three(squares)}
    if isinstance(policy, SmartResize):
        unit = policy.merge**2
        found["tokens"] = _three([n // unit for n in squares])
        if policy.window is not None:
            per_side = policy.window // policy.patch
            windows = [math.ceil(n / per_side) ** 2 for n in grid]
            found["windows"] = _three(windows)
            found["window_patches"] = _three([n * per_side**2 for n in windows])
    return found


def _sides(image: ImageSpec) -> Range | None:
    """Height, and likewise width, of a picture at native resolution; None where it is fixed."""
    policy = image.policy
    if isinstance(policy, SmartResize):
        cell, least, most = policy.patch * policy.merge, policy.least_pixels, policy.most_pixels
    elif isinstance(policy, Lfm2Tiles):
        cell = policy.patch * policy.merge
        least, most = policy.least_tokens * cell**2, policy.most_tokens * cell**2
    elif isinstance(policy, NativePatches):
        cell, most = policy.patch, policy.most_patches * policy.patch**2
        least = most
    else:
        return None
    longest = _whole(math.sqrt(STRETCH * most), cell)
    if isinstance(policy, Lfm2Tiles) and policy.split:
        longest = max(longest, policy.tile)
    typical = _whole(math.sqrt(min(max(least, TYPICAL_PIXELS), most)), cell)
    return cell, typical, longest


def _whole(side: float, cell: int) -> int:
    return max(cell, math.floor(side / cell) * cell)


def _three(sizes: Sequence[int]) -> Range:
    low, usual, high = sizes
    return low, usual, high
