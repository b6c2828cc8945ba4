"""The trained parts of nano on its frozen encoder, as torch modules.

::

    stride 8  (40)   ─ mean 2x2 ─ 1x1 ─┐
    stride 16 (112)  ──────────── 1x1 ─┼─ blocks ─ norm ─ cells (192) ─┬─ semantic head
    stride 32 (1280) ─ 1x1 ── twice as large ─┘                        ├─ connector ─ visual tokens
                                                                       └─ mask head

``export/nano/`` writes the same computation into graphs and holds it in numpy; the names of the
tensors here are those of the file that both share.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevlm.export.nano_train.mask_head import MaskHead
from edgevlm.export.nano_train.shape import COARSE, FINE, MIDDLE, WIDTH

HIDDEN = 576  # of the language model
ALIGNED = 256  # features of the space that texts and cells share
SIDES = (1, 2, 3, 4, 7)  # windows along one side, for every budget of tokens
GRID = 14  # cells along one side of the training pictures
MARGIN = 1 / GRID  # of a picture's side, by which a window looks over its edge
HEADS = 6


class Trunk(NamedTuple):
    """What the encoder gives of some pictures, float32 ``(batch, channels, side, side)`` each.

    Args:
        fine: stride 8, ``FINE`` channels.
        middle: stride 16, ``MIDDLE``.
        coarse: stride 32, ``COARSE``, behind the encoder's last convolution and ReLU6.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor


class Block(nn.Module):
    """Depthwise 5x5, norm over channels, two linear layers, residual.

    Source: ConvNeXt (Liu et al., 2022), figure 4, with ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, WIDTH, side, side)`` to the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(functional.relu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class Neck(nn.Module):
    """Three stages of the encoder to cells, ``(batch, WIDTH, side, side)`` at stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(FINE, WIDTH, 1)
        self.middle = nn.Conv2d(MIDDLE, WIDTH, 1)
        self.coarse = nn.Conv2d(COARSE, WIDTH, 1)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, trunk: Trunk) -> Tensor:
        """Cells."""
        x = self.fine(functional.avg_pool2d(trunk.fine, 2)) + self.middle(trunk.middle)
        x = x + functional.interpolate(self.coarse(trunk.coarse), scale_factor=2, mode="nearest")
        for block in self.blocks:
            x = block(x)
        cells: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return cells


class Semantic(nn.Module):
    """Cells, whole pictures and texts in one space; all embeddings have length 1.

    Source: SAM-CLIP (Wang et al., 2023), section 3.1; the text tower is a projection of the
    language model's own word embeddings.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(WIDTH, ALIGNED)
        self.shown = nn.Linear(WIDTH, 1)
        self.picture = nn.Linear(WIDTH, ALIGNED)
        self.text_up = nn.Linear(HIDDEN, HIDDEN)
        self.text_down = nn.Linear(HIDDEN, ALIGNED)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def cells(self, cells: Tensor) -> Tensor:
        """``(batch, side * side, ALIGNED)``, row by row."""
        return functional.normalize(self.cell(cells.flatten(2).transpose(1, 2)), dim=-1)

    def pictures(self, cells: Tensor) -> Tensor:
        """``(batch, ALIGNED)``: of the cells that show a thing."""
        rows = cells.flatten(2).transpose(1, 2)
        weight = torch.sigmoid(self.shown(rows))
        pooled = (weight * rows).sum(1) / (weight.sum(1) + 1e-3)
        return functional.normalize(self.picture(pooled), dim=-1)

    def texts(self, words: Tensor) -> Tensor:
        """``(texts, ALIGNED)`` of mean word embeddings ``(texts, HIDDEN)``."""
        hidden = functional.relu(self.text_up(words))
        return functional.normalize(self.text_down(hidden), dim=-1)


def windows(side: int, grid: int) -> Tensor:
    """Which cells each window of a ``side x side`` cut sees, bool ``(side^2, grid^2)``."""
    centres = (torch.arange(grid) + 0.5) / grid
    starts = torch.arange(side) / side
    margin = MARGIN if side > 1 else 0.0
    inside = (centres[None] > starts[:, None] - margin) & (
        centres[None] < starts[:, None] + 1 / side + margin
    )
    both = inside[:, None, :, None] & inside[None, :, None, :]
    return both.reshape(side * side, grid * grid)


class Connector(nn.Module):
    """Cells to visual tokens: every token asks its window, at any of several budgets.

    A token is the closed-form guess at its window (``export/nano/connector.py``), corrected by what
    its query finds there.

    Source: windowed queries as in TokenPacker (Li et al., 2024), section 3.2.
    """

    def __init__(self) -> None:
        super().__init__()
        tokens = sum(side * side for side in SIDES)
        self.rows = nn.Parameter(0.02 * torch.randn(GRID, WIDTH))
        self.columns = nn.Parameter(0.02 * torch.randn(GRID, WIDTH))
        self.queries = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(2 * WIDTH + HIDDEN, 768)
        self.down = nn.Linear(768, HIDDEN)
        self.gain = nn.Parameter(torch.full((len(SIDES),), 0.5))
        self.place = nn.Parameter(torch.zeros(tokens, HIDDEN))

    def forward(self, cells: Tensor, guess: Tensor, side: int) -> Tensor:
        """Tokens ``(batch, side^2, HIDDEN)``.

        Args:
            cells: ``(batch, WIDTH, grid, grid)``.
            guess: ``(batch, side^2, HIDDEN)``, the closed-form tokens of the same windows.
            side: one of ``SIDES``.
        """
        n, mine = SIDES.index(side), rows_of(side)
        batch, _, grid, _ = cells.shape
        rows = cells.flatten(2).transpose(1, 2)
        place = (_stretched(self.rows, grid)[:, None] + _stretched(self.columns, grid)).flatten(
            0, 1
        )
        placed = rows + place
        seen = windows(side, grid).to(cells.device)
        key, value = (
            f(placed).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.key, self.value)
        )
        query = (
            self.queries[mine].unflatten(1, (HEADS, -1)).transpose(0, 1).expand(batch, -1, -1, -1)
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        found = found.transpose(1, 2).flatten(2)
        mean = (seen / seen.sum(1, keepdim=True)) @ rows
        token = self.down(functional.relu(self.up(torch.cat([found, mean, guess], 2))))
        tokens: Tensor = self.gain[n] * guess + token + self.place[mine]
        return tokens

    def placed(self, side: int) -> Tensor:
        """What tells a token where it stands, ``(side^2, HIDDEN)``."""
        return self.place[rows_of(side)]


def rows_of(side: int) -> slice:
    """Where a budget's tokens are among those of all budgets."""
    start = sum(s * s for s in SIDES[: SIDES.index(side)])
    return slice(start, start + side * side)


def _stretched(table: Tensor, grid: int) -> Tensor:
    """Positions ``(grid, WIDTH)`` of another grid, linear between those that were trained."""
    if grid == len(table):
        return table
    return functional.interpolate(table.T[None], size=grid, mode="linear")[0].T


class NanoHeads(nn.Module):
    """All of them."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = Neck()
        self.semantic = Semantic()
        self.connector = Connector()
        self.mask = MaskHead()
