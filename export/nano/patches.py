"""What nano's encoder says of small places: features of two middle stages, side by side.

::

    stage 3, stride 8 ── mean of 3x3 ── standardised ── unit length ──────────────────┐
    stage 5, stride 16 ─ mean of 3x3 ── standardised ── unit length ── twice as fine ─┴─ / sqrt 2

Middle stages still tell textures and edges apart that the last one, made for classes, does not.

Source: PatchCore (Roth et al., 2022), section 3.1: stages 2 and 3 of a ResNet, 3x3 neighbourhoods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.graph import GraphBuilder
from edgevlm.tensors import Array, Float32

FINE, COARSE = 5, 11  # blocks behind the stem: the last ones of stages 3 and 5
STRIDE = 8  # of the fine one
_SUMMED = {FINE: (3, 4), COARSE: (8, 9, 10)}  # what the residual stream of the stage adds up
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StagePatches:
    """Standardises one stage.

    Args:
        block: which one's output.
        mean: float32 ``(channels,)``.
        deviation: float32 ``(channels,)``, positive.
    """

    block: int
    mean: Float32
    deviation: Float32


def stages(state: dict[str, Array]) -> tuple[StagePatches, StagePatches]:
    """Both stages; means and deviations are read off the batch norms, so no picture is needed.

    Every block of a stage adds a normal of its own norm's bias and gain to the residual stream.

    Args:
        state: tensors of EfficientNet-Lite.
    """

    def of(block: int) -> StagePatches:
        norms = [f"_blocks.{n}._bn2" for n in _SUMMED[block]]
        mean = sum(state[f"{n}.bias"].astype(np.float64) for n in norms)
        variance = sum(state[f"{n}.weight"].astype(np.float64) ** 2 for n in norms)
        deviation = np.sqrt(np.asarray(variance) + _LEAST)
        return StagePatches(
            block=block,
            mean=np.asarray(mean, np.float32),
            deviation=deviation.astype(np.float32),
        )

    return of(FINE), of(COARSE)


def width(parts: tuple[StagePatches, ...]) -> int:
    """Features of a patch."""
    return sum(len(part.mean) for part in parts)


def apply(parts: tuple[StagePatches, StagePatches], blocks: list[Float32]) -> Float32:
    """Patches, float32 ``(rows * columns, width)``, each of length 1, row by row.

    Args:
        parts: from ``stages``.
        blocks: what every block of the encoder gives, float32 ``(channels, height, width)``.
    """
    fine, coarse = (_standard(part, blocks[part.block]) for part in parts)
    coarse = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, : fine.shape[1], : fine.shape[2]]
    joined = np.concatenate([fine, coarse]) / np.float32(np.sqrt(2))
    return np.ascontiguousarray(joined.reshape(len(joined), -1).T, np.float32)


def _standard(part: StagePatches, x: Float32) -> Float32:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones(x.shape[1:], np.float32), 1)
    height, breadth = x.shape[1:]
    total, count = np.zeros_like(x), np.zeros(x.shape[1:], np.float32)
    for i in range(3):
        for j in range(3):
            total += padded[:, i : i + height, j : j + breadth]
            count += inside[i : i + height, j : j + breadth]
    scaled = (total / count - part.mean[:, None, None]) / part.deviation[:, None, None]
    found: Float32 = scaled / np.maximum(np.linalg.norm(scaled, axis=0), _LEAST)
    return found


def lower(g: GraphBuilder, parts: tuple[StagePatches, StagePatches], blocks: list[str]) -> str:
    """Write the patches; ``blocks`` are the names of what ``apply`` takes, with a batch of 1."""
    fine, coarse = (_lower_standard(g, part, blocks[part.block]) for part in parts)
    scales = g.constant("patches.twice", np.array([1, 1, 2, 2], np.float32))
    coarse = g.node(
        "Resize", [coarse, "", scales], "patches/coarse",
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    joined = g.node("Concat", [fine, coarse], "patches", axis=1)
    half = g.constant("patches.half", np.float32(1 / np.sqrt(2)))
    scaled = g.node("Mul", [joined, half], "patches")
    rows = g.constant("patches.rows", np.array([width(parts), -1], np.int64))
    flat = g.node("Reshape", [scaled, rows], "patches")
    return g.node("Transpose", [flat], "patches", perm=[1, 0])


def _lower_standard(g: GraphBuilder, part: StagePatches, x: str) -> str:
    place = f"patches/block.{part.block}"
    name = f"patches.{part.block}"
    near = g.node(
        "AveragePool", [x], place, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0
    )
    mean = g.constant(f"{name}.mean", part.mean[:, None, None])
    precision = g.constant(
        f"{name}.precision",
        (1 / part.deviation.astype(np.float64)).astype(np.float32)[:, None, None],
    )
    scaled = g.node("Mul", [g.node("Sub", [near, mean], place), precision], place)
    axis = g.constant("patches.axis", np.array([1], np.int64))
    least = g.constant("patches.least", np.float32(_LEAST))
    norm = g.node("ReduceL2", [scaled, axis], place, keepdims=1)
    return g.node("Div", [scaled, g.node("Max", [norm, least], place)], place)
