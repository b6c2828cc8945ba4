"""Which things a picture shows, each with its mask: the mask head asked at every cell of a thing.

Source: Segment Anything (Kirillov et al., 2023), section 5 and appendix B: a grid of points, masks
filtered by their expected overlap and made unique; here the grid is where the encoder sees a thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.tensors import Float32

POINTS_AT_MOST = 64
_SMALLEST = 4  # cells of a mask
_SAME = 0.6  # overlap of masks that confirm each other

MaskAt = Callable[[Float32], tuple[Float32, Float32]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """One thing.

    Args:
        mask: bool ``(side, side)`` over the encoder's input.
        look: float32 ``(width,)``: the mean of its cells' embeddings, at most 1 long.
    """

    mask: NDArray[np.bool_]
    look: Float32


def shown_things(
    chance: Float32, cells: Float32, inside: NDArray[np.bool_], masks_at: MaskAt, rule: ScenePrompt
) -> list[Shown]:
    """Things in a picture, the surest first.

    Args:
        chance: of a thing in every cell, float32 ``(grid, grid)``.
        cells: embeddings, float32 ``(grid * grid, width)``.
        inside: which cells show the picture and no border, bool ``(grid, grid)``.
        masks_at: gives the logits ``(points, side, side)`` and expected overlaps ``(points,)`` of
            points ``(points, 2)``, x and y in [0, 1]; ``side`` is a multiple of ``grid``.
        rule: thresholds.
    """
    grid = len(chance)
    rows, columns = np.nonzero((chance > rule.shown) & inside)
    if not len(rows):
        return []
    if len(rows) > POINTS_AT_MOST:
        some = np.linspace(0, len(rows) - 1, POINTS_AT_MOST).round().astype(int)
        rows, columns = rows[some], columns[some]
    points = (np.stack([columns, rows], 1) + 0.5).astype(np.float32) / np.float32(grid)
    logits, overlaps = masks_at(points)
    masks = logits > 0
    found, kept = [], list[int]()
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(1)
    both = flat @ flat.T
    overlap = both / np.maximum(area[:, None] + area - both, 1)
    agreed = overlaps * np.log1p((overlap > _SAME).sum(1))
    covered = np.zeros(flat.shape[1], np.bool_)
    for n in np.argsort(-agreed, kind="stable"):
        fresh = masks[n].ravel() & ~covered
        if overlaps[n] < rule.sure or fresh.sum() < max(_SMALLEST, rule.fresh * area[n]):
            continue
        if any(overlap[n, other] > rule.overlap for other in kept):
            continue
        kept.append(int(n))
        covered |= masks[n].ravel()
        own = fresh.reshape(masks[n].shape)
        look = _look(own, chance, cells)
        if look is not None:
            found.append(Shown(mask=own, look=look))
        if len(found) == rule.most:
            break
    return found


def _look(mask: NDArray[np.bool_], chance: Float32, cells: Float32) -> Float32 | None:
    """The mean of the cells under a mask; None where no cell shows a thing."""
    grid, part = len(chance), len(mask) // len(chance)
    share = mask.reshape(grid, part, grid, part).mean((1, 3)).astype(np.float32)
    weight = (share * chance).ravel()
    if weight.sum() < 1e-3:
        return None
    mean: Float32 = weight @ cells / weight.sum()
    return mean
