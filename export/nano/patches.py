"""What nano's encoder says of small places: features of a middle stage.

It still tells textures and edges apart that the last one, made for classes, does not.

::

    stage 3, stride 8 ── standardised ── mean of 3x3 ── unit length

Source: PatchCore (Roth et al., 2022), section 3.1, with one stage: on small textures a second one
(stage 5) found fewer defects (``python -m benchmarks.anomaly``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.graph import GraphBuilder
from edgevlm.tensors import Array, Float32

BLOCK = 5  # the last one of stage 3, counting the stem
STRIDE = 8
_SUMMED = (3, 4)  # blocks whose outputs the residual stream of the stage adds up
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchStage:
    """Standardises the stage.

    Args:
        mean: float32 ``(channels,)``.
        deviation: float32 ``(channels,)``, positive.
    """

    mean: Float32
    deviation: Float32

    @property
    def width(self) -> int:
        """Features of a patch."""
        return len(self.mean)

    def apply(self, blocks: list[Float32]) -> Float32:
        """Patches, float32 ``(rows * columns, width)``, each of length 1, row by row.

        Args:
            blocks: what every block of the encoder gives, float32 ``(channels, height, width)``.
        """
        x = (blocks[BLOCK] - self.mean[:, None, None]) / self.deviation[:, None, None]
        height, breadth = x.shape[1:]
        padded, inside = np.pad(x, ((0, 0), (1, 1), (1, 1))), np.pad(np.ones(x.shape[1:]), 1)
        total, count = np.zeros_like(x), np.zeros(x.shape[1:])
        for i in range(3):
            for j in range(3):
                total += padded[:, i : i + height, j : j + breadth]
                count += inside[i : i + height, j : j + breadth]
        near = total / count
        unit = near / np.maximum(np.linalg.norm(near, axis=0), _LEAST)
        return np.ascontiguousarray(unit.reshape(len(unit), -1).T, np.float32)

    def lower(self, g: GraphBuilder, blocks: list[str]) -> str:
        """Write the patches; ``blocks`` are names of what ``apply`` takes, with a batch of 1."""
        place = "patches"
        mean = g.constant("patches.mean", self.mean[:, None, None])
        precision = (1 / self.deviation.astype(np.float64)).astype(np.float32)
        scale = g.constant("patches.precision", precision[:, None, None])
        x = g.node("Mul", [g.node("Sub", [blocks[BLOCK], mean], place), scale], place)
        near = g.node(
            "AveragePool", [x], place, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0
        )
        axis = g.constant("patches.axis", np.array([1], np.int64))
        least = g.constant("patches.least", np.float32(_LEAST))
        norm = g.node("ReduceL2", [near, axis], place, keepdims=1)
        unit = g.node("Div", [near, g.node("Max", [norm, least], place)], place)
        rows = g.constant("patches.rows", np.array([self.width, -1], np.int64))
        return g.node("Transpose", [g.node("Reshape", [unit, rows], place)], place, perm=[1, 0])


def stage(state: dict[str, Array]) -> PatchStage:
    """The stage; mean and deviation are read off its batch norms, so no picture is needed.

    Every block of the stage adds a normal of its own norm's bias and gain to the residual stream.

    Args:
        state: tensors of EfficientNet-Lite.
    """
    norms = [f"_blocks.{n}._bn2" for n in _SUMMED]
    mean = sum(state[f"{n}.bias"].astype(np.float64) for n in norms)
    variance = sum(state[f"{n}.weight"].astype(np.float64) ** 2 for n in norms)
    return PatchStage(
        mean=np.asarray(mean, np.float32),
        deviation=np.sqrt(np.asarray(variance) + _LEAST).astype(np.float32),
    )
