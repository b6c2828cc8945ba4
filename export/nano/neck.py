"""nano's neck: three stages of the encoder become cells at stride 16, in numpy and as nodes.

::

    stride 8  (40)   ─ mean 2x2 ─ 1x1 ─┐
    stride 16 (112)  ──────────── 1x1 ─┼─ blocks ─ norm ─ cells (192)
    stride 32 (1280) ─ 1x1 ── twice as large ─┘

Source: blocks as in ConvNeXt (Liu et al., 2022), figure 4, with ReLU; the sum of stages as in
feature pyramids (Lin et al., 2017), figure 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.layers import (
    Depthwise,
    Linear,
    Norm,
    lower_plane,
    lower_rows,
    lower_twice,
    relu,
    twice,
)
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Float32

WIDTH = 192
FINE, MIDDLE, COARSE = 40, 112, 1280  # channels of the three stages
FINE_BLOCK, MIDDLE_BLOCK, COARSE_BLOCK = 5, 11, 17  # of the encoder, counting the stem
STRIDE = 16
BLOCKS = 3


class Cells(NamedTuple):
    """Names of the cells in a graph.

    Args:
        rows: float32 ``(side * side, WIDTH)``, row by row.
        plane: float32 ``(1, WIDTH, side, side)``.
    """

    rows: str
    plane: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Depthwise 5x5, norm over channels, two linear layers, residual."""

    depthwise: Depthwise
    norm: Norm
    up: Linear
    down: Linear

    @classmethod
    def read(cls, file: TrainedFile, name: str) -> Block:
        """As torch names it."""
        return cls(
            depthwise=Depthwise.read(file, f"{name}.depthwise", WIDTH, 5),
            norm=Norm.read(file, f"{name}.norm", WIDTH),
            up=Linear.read(file, f"{name}.up", WIDTH, 2 * WIDTH),
            down=Linear.read(file, f"{name}.down", 2 * WIDTH, WIDTH),
        )

    def apply(self, plane: Float32) -> Float32:
        """``(WIDTH, side, side)`` to the same."""
        rows = self.norm.apply(self.depthwise.apply(plane).transpose(1, 2, 0))
        found: Float32 = self.down.apply(relu(self.up.apply(rows))).transpose(2, 0, 1)
        return plane + found

    def lower(self, g: GraphBuilder, plane: str, side: int) -> str:
        """Write it; the plane has a batch of 1."""
        place = self.depthwise.name.rpartition(".")[0].replace(".", "/")
        rows = lower_rows(g, self.depthwise.lower(g, plane), WIDTH, f"{place}/rows")
        wide = g.node("Relu", [self.up.lower(g, self.norm.lower(g, rows))], place)
        back = lower_plane(g, self.down.lower(g, wide), WIDTH, side, f"{place}/plane")
        return g.node("Add", [plane, back], place)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neck:
    """The neck."""

    fine: Linear
    middle: Linear
    coarse: Linear
    blocks: tuple[Block, ...]
    norm: Norm

    @classmethod
    def read(cls, file: TrainedFile) -> Neck:
        """As torch names it."""
        return cls(
            fine=Linear.read(file, "neck.fine", FINE, WIDTH, conv=True),
            middle=Linear.read(file, "neck.middle", MIDDLE, WIDTH, conv=True),
            coarse=Linear.read(file, "neck.coarse", COARSE, WIDTH, conv=True),
            blocks=tuple(Block.read(file, f"neck.blocks.{n}") for n in range(BLOCKS)),
            norm=Norm.read(file, "neck.norm", WIDTH),
        )

    def apply(self, fine: Float32, middle: Float32, coarse: Float32) -> Float32:
        """Cells, float32 ``(WIDTH, side, side)``.

        Args:
            fine: of the encoder, float32 ``(FINE, 2 * side, 2 * side)``.
            middle: likewise, ``(MIDDLE, side, side)``.
            coarse: likewise, ``(COARSE, side / 2, side / 2)``.
        """
        _, height, width = middle.shape
        means = fine.reshape(FINE, height, 2, width, 2).mean((2, 4))
        plane = self.fine.over_plane(means) + self.middle.over_plane(middle)
        plane = plane + twice(self.coarse.over_plane(coarse))
        for block in self.blocks:
            plane = block.apply(plane)
        cells: Float32 = self.norm.apply(plane.transpose(1, 2, 0)).transpose(2, 0, 1)
        return cells

    def lower(self, g: GraphBuilder, blocks: list[str], side: int) -> Cells:
        """Write it, from what every block of the encoder gives."""
        fine, middle, coarse = (blocks[n] for n in (FINE_BLOCK, MIDDLE_BLOCK, COARSE_BLOCK))
        means = g.node("AveragePool", [fine], "neck", kernel_shape=[2, 2], strides=[2, 2])
        near = [self.fine.lower_over_plane(g, means), self.middle.lower_over_plane(g, middle)]
        wide = lower_twice(g, self.coarse.lower_over_plane(g, coarse), "neck")
        plane = g.node("Add", [g.node("Add", near, "neck/near"), wide], "neck")
        for block in self.blocks:
            plane = block.lower(g, plane, side)
        rows = self.norm.lower(g, lower_rows(g, plane, WIDTH, "neck/rows"))
        return Cells(rows, lower_plane(g, rows, WIDTH, side, "neck/cells"))
