"""A promptable mask at stride 8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevlm.export.nano_train.shape import FINE, WIDTH

MASK_WIDTH = 64
GEOMETRY = 6  # of a prompt: has a box, its centre, its size, has negative points
PLACES = 6  # 1, x, y, x^2, y^2, xy
POINT_SIGMA = 0.05  # of a picture's side: how far a point is seen
BOX_LABELS = (2, 3)  # of a box's first and second corner; 1 is a point inside, 0 one outside


class MaskHead(nn.Module):
    """Points or a box to a mask at stride 8: a filter made from what the prompt covers.

    Source: conditional convolutions for masks (CondInst, Tian et al., 2020), section 3, with one
    layer and a quadratic in the place, so that a filter can say where.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(FINE, MASK_WIDTH, 1)
        self.cell = nn.Conv2d(WIDTH, MASK_WIDTH, 1)
        self.depthwise = nn.Conv2d(MASK_WIDTH, MASK_WIDTH, 3, padding=1, groups=MASK_WIDTH)
        self.mix = nn.Conv2d(MASK_WIDTH, MASK_WIDTH, 1)
        self.up = nn.Linear(2 * WIDTH + GEOMETRY, 256)
        self.down = nn.Linear(256, MASK_WIDTH + PLACES + 1)

    def embed(self, fine: Tensor, cells: Tensor) -> Tensor:
        """``image_embeddings``, ``(batch, MASK_WIDTH + WIDTH, side, side)`` at stride 8."""
        x = self.fine(fine) + functional.interpolate(
            self.cell(cells), scale_factor=2, mode="nearest"
        )
        x = self.mix(functional.relu(self.depthwise(functional.relu(x))))
        return torch.cat([x, functional.interpolate(cells, scale_factor=2, mode="nearest")], 1)

    def forward(self, embeddings: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of some prompts, each for the picture of its row.

        Args:
            embeddings: of one picture a prompt, ``(prompts, MASK_WIDTH + WIDTH, side, side)``.
            points: ``(prompts, points, 2)``, x and y from 0 to 1.
            labels: int64 ``(prompts, points)``: 1 inside, 0 outside, 2 and 3 the corners of a box,
                -1 none.

        Returns:
            logits ``(prompts, side, side)``, and the overlap that is expected ``(prompts)``.
        """
        side = embeddings.shape[-1]
        centres = (torch.arange(side, device=points.device) + 0.5) / side
        y, x = (c.flatten() for c in torch.meshgrid(centres, centres, indexing="ij"))
        away = (points[..., 0, None] - x) ** 2 + (points[..., 1, None] - y) ** 2
        near = torch.exp(-away / (2 * POINT_SIGMA**2))
        inside, outside = ((near * (labels == n)[..., None]).sum(1) for n in (1, 0))
        first, second = ((points * (labels == n)[..., None]).sum(1) for n in BOX_LABELS)
        boxed = (labels == BOX_LABELS[0]).any(1, keepdim=True).to(points.dtype)
        within = (
            (x >= first[:, :1]) & (x <= second[:, :1]) & (y >= first[:, 1:]) & (y <= second[:, 1:])
        ).to(points.dtype)
        weight = boxed * within + (1 - boxed) * inside
        rows = embeddings.flatten(2)
        cells = rows[:, MASK_WIDTH:]
        means = [
            (cells @ w[..., None])[..., 0] / (w.sum(1, keepdim=True) + 1e-3)
            for w in (weight, outside)
        ]
        xs = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y])
        geometry = torch.cat(
            [
                boxed,
                (first + second) / 2 * boxed,
                (second - first) * boxed,
                (labels == 0).any(1, keepdim=True).to(points.dtype),
            ],
            1,
        )
        centre = (points * (labels == 1)[..., None]).sum(1) / (labels == 1).sum(
            1, keepdim=True
        ).clamp(min=1)
        geometry[:, 1:3] = geometry[:, 1:3] + (1 - boxed) * centre
        made = self.down(functional.relu(self.up(torch.cat([*means, geometry], 1))))
        look, where, score = made.split([MASK_WIDTH, PLACES, 1], 1)
        logits = (look[:, None] @ rows[:, :MASK_WIDTH])[:, 0] / MASK_WIDTH**0.5 + where @ xs
        return logits.unflatten(1, (side, side)), torch.sigmoid(score[:, 0])
