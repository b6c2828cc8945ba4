"""First lesson: cells, masks and tokens learn what is where, without the language model.

It costs a hundredth of the second lesson a picture, and leaves little for that one to learn: its
tokens already say in the language model's own words what they see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgevlm.colour import COLOURS
from edgevlm.export.nano_data.scenes import MOST
from edgevlm.export.nano_train.cache import Told
from edgevlm.export.nano_train.heads import HIDDEN, SIDES, NanoHeads, Trunk
from edgevlm.export.nano_train.mask_head import MaskHead
from edgevlm.export.nano_train.seeing import Seeing
from edgevlm.export.nano_train.words import Lexicon, centres
from edgevlm.tensors import Array

_SURE = 0.5  # of the encoder's own classifier in a cell, to be believed
_TOLD = 0.3  # share of a window that one thing must cover for its name to be asked of the token
_SHARPNESS = 8.0
_NOTHING = 0.2  # weight of windows without a centre, which are most
_GROUND = 0.12  # share of the background's cells that are asked what they are


class Perceiving:
    """Losses of the first lesson.

    Args:
        seeing: prepares the stages.
        lexicon: names and directions.
        class_places: rows of the lexicon for ImageNet's classes, int64 ``(1000,)``.
    """

    def __init__(self, seeing: Seeing, lexicon: Lexicon, class_places: Tensor) -> None:
        self._seeing = seeing
        self._lexicon = lexicon
        self._class_places = class_places

    def things(self, told: Sequence[Told]) -> tuple[Tensor, Tensor, Tensor]:
        """Names and colours of the things by number, and what they add to tokens.

        Returns:
            names and colours, int64 ``(batch, MOST)``, -1 for none, and ``(batch, MOST, hidden)``.
        """
        numbers = torch.full((len(told), MOST), -1)
        colours = torch.full((len(told), MOST), -1)
        directions = torch.zeros(len(told), MOST, HIDDEN)
        for i, one in enumerate(told):
            for j, (name, colour) in enumerate(zip(one.names, one.colours, strict=True)):
                if name in self._lexicon.things:
                    numbers[i, j] = self._lexicon.things[name]
                    directions[i, j] = self._lexicon.thing(name, colour)
                    colours[i, j] = -1 if colour is None else COLOURS.index(colour)
        return numbers, colours, directions

    def losses(
        self,
        heads: NanoHeads,
        arrays: dict[str, Array],
        told: Sequence[Told],
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        """One number for each thing that is learnt."""
        stages = self._seeing.stages(arrays)
        trunk = _dropped(self._seeing.standardised(stages), rng)
        cover = torch.as_tensor(arrays["cover"].astype(np.float32)) / 255
        numbers, colours, directions = self.things(told)
        cells = heads.neck(trunk)
        texts = heads.semantic.texts(self._lexicon.means)
        found = self._semantic(heads, cells, texts, cover, numbers, rng)
        found["rehearsal"] = self._rehearsal(heads, cells, texts, stages.coarse)
        found |= mask_losses(heads.mask, trunk.fine, cells, cover, numbers, rng)
        side = int(rng.choice(SIDES))
        tokens = heads.connector(cells, self._seeing.guess(stages.coarse, side), side)
        found |= self.token_losses(tokens, side, cover, (numbers, colours, directions))
        return found

    def _semantic(
        self,
        heads: NanoHeads,
        cells: Tensor,
        texts: Tensor,
        cover: Tensor,
        numbers: Tensor,
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        small = functional.adaptive_avg_pool2d(cover, cells.shape[-1]).flatten(2)
        most, which = small.max(1)
        thing = numbers.gather(1, which)
        shown = (small.sum(1) > 0.5).float()
        target = torch.where(most > 0.5, thing, torch.where(small.sum(1) < 0.1, 0, -1))
        drawn = torch.as_tensor(rng.random(target.shape) < _GROUND)
        known = (target > 0) | ((target == 0) & drawn)
        scale = heads.semantic.scale.exp()
        rows = heads.semantic.cells(cells)[known]
        found = target[known]
        names = _soft_ce(
            scale * rows @ texts.T, self._lexicon.targets[found], torch.ones(len(found))
        )
        flat = cells.flatten(2).transpose(1, 2)
        ground = functional.binary_cross_entropy_with_logits(
            heads.semantic.shown(flat)[..., 0], shown
        )
        here = (numbers > 0).float()
        target = (here[..., None] * self._lexicon.targets[numbers.clamp(min=0)]).sum(1)
        some = here.sum(1) > 0
        target = target[some] / here.sum(1)[some, None]
        pictures = _soft_ce(
            scale * heads.semantic.pictures(cells)[some] @ texts.T, target, torch.ones(len(target))
        )
        return {"cells": names, "ground": ground, "pictures": pictures}

    def _rehearsal(self, heads: NanoHeads, cells: Tensor, texts: Tensor, coarse: Tensor) -> Tensor:
        """Where the encoder's own classifier is sure, cells agree with it about its classes."""
        probabilities = self._seeing.class_probabilities(coarse)
        sure = probabilities.max(-1).values > _SURE
        if not sure.any():
            return cells.sum() * 0
        small = functional.avg_pool2d(cells, 2)
        rows = heads.semantic.cells(small)[sure]
        scores = heads.semantic.scale.exp() * rows @ texts[self._class_places].T
        return _soft_ce(scores, probabilities[sure], torch.ones(int(sure.sum())))

    def token_losses(
        self, tokens: Tensor, side: int, cover: Tensor, things: tuple[Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Tokens near what they are to say, and clearly nearer to it than to other words."""
        lexicon, (numbers, colours, directions) = self._lexicon, things
        said = (tokens - lexicon.centre) / lexicon.length
        apart = (said - lexicon.tokens(cover, directions, side)).pow(2).sum(-1).mean()
        most, which = functional.adaptive_avg_pool2d(cover, side).flatten(2).max(1)
        told = most > (_TOLD if side > 1 else 0.02)
        found = {"tokens": apart}
        thing, colour = numbers.gather(1, which), colours.gather(1, which)
        if (named := told & (thing > 0)).any():
            target = lexicon.targets[thing[named]]
            scores = _SHARPNESS * said[named] @ lexicon.directions.T
            found["token names"] = _soft_ce(scores, target, torch.ones(len(target)))
        if (coloured := told & (colour >= 0)).any():
            scores = _SHARPNESS * said[coloured] @ lexicon.colours.T
            found["token colours"] = functional.cross_entropy(scores, colour[coloured])
        there = centres(cover, side).clamp(max=len(lexicon.numbers) - 1)
        scores = _SHARPNESS * said @ lexicon.numbers.T
        each = functional.cross_entropy(scores.flatten(0, 1), there.flatten(), reduction="none")
        weight = torch.where(there.flatten() > 0, 1.0, _NOTHING)
        found["token numbers"] = (each * weight).sum() / weight.sum()
        return found


def mask_losses(
    head: MaskHead,
    fine: Tensor,
    cells: Tensor,
    cover: Tensor,
    numbers: Tensor,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """One prompt for a thing of every picture that has one: a box, or points."""
    some = [i for i in range(len(cover)) if bool((numbers[i] >= 0).any())]
    if not some:
        return {"masks": cells.sum() * 0, "mask scores": cells.sum() * 0}
    points, labels, wanted = [], [], []
    for i in some:
        there = torch.nonzero(numbers[i] >= 0).flatten().tolist()
        thing = cover[i, there[int(rng.integers(len(there)))]]
        p, n = _prompt(thing.cpu().numpy(), cover[i].sum(0).cpu().numpy(), rng)
        points.append(p)
        labels.append(n)
        wanted.append(thing)
    logits, scores = head(
        head.embed(fine[some], cells[some]),
        torch.as_tensor(np.stack(points)),
        torch.as_tensor(np.stack(labels)),
    )
    target = torch.stack(wanted)
    cross = functional.binary_cross_entropy_with_logits(logits, target)
    shown = logits.sigmoid()
    overlap = 1 - (2 * (shown * target).sum((1, 2)) + 1) / ((shown + target).sum((1, 2)) + 1)
    with torch.no_grad():
        a, b = logits > 0, target > 0.5
        union = (a | b).sum((1, 2)).clamp(min=1)
        real = (a & b).sum((1, 2)) / union
    return {"masks": 2 * cross + overlap.mean(), "mask scores": (scores - real).pow(2).mean()}


def _prompt(thing: Array, all_things: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points ``(3, 2)`` from 0 to 1 and labels ``(3,)``."""
    side = len(thing)
    points, labels = np.zeros((3, 2), np.float32), np.full(3, -1, np.int64)
    rows, columns = np.nonzero(thing > 0.5)
    if not len(rows):
        rows, columns = np.nonzero(thing >= thing.max())
    if rng.random() < 0.5:
        jitter = rng.normal(0, 0.015, 4).astype(np.float32)
        points[0] = columns.min() / side + jitter[0], rows.min() / side + jitter[1]
        points[1] = (columns.max() + 1) / side + jitter[2], (rows.max() + 1) / side + jitter[3]
        labels[:2] = 2, 3
        return np.clip(points, 0, 1), labels
    count = int(rng.integers(1, 3))
    for n in range(count):
        at = int(rng.integers(len(rows)))
        points[n] = (columns[at] + rng.random()) / side, (rows[at] + rng.random()) / side
        labels[n] = 1
    outside = np.argwhere((all_things > 0.5) & (thing < 0.1))
    if len(outside) and rng.random() < 0.3:
        y, x = outside[int(rng.integers(len(outside)))]
        points[2] = (x + 0.5) / side, (y + 0.5) / side
        labels[2] = 0
    return points, labels


def _soft_ce(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy with a distribution, weighted mean over rows."""
    each = -(target * scores.log_softmax(-1)).sum(-1)
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def _dropped(trunk: Trunk, rng: np.random.Generator, chance: float = 0.1) -> Trunk:
    """The stages with some channels of some pictures left out, so that none is relied on."""
    return Trunk(
        *(
            x * torch.as_tensor((rng.random((*x.shape[:2], 1, 1)) > chance).astype(np.float32))
            for x in trunk
        )
    )
