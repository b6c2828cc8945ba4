"""Things from the masks that points give."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.runtime.model.scene import shown_things
from edgevlm.tensors import Float32

GRID, SIDE = 6, 12
RULE = ScenePrompt(file="words.json", output="cell_chance")
EVERYWHERE = np.ones((GRID, GRID), np.bool_)


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    at = (np.arange(SIDE) + 0.5) / SIDE
    return (at[None] - x) ** 2 + (at[:, None] - y) ** 2 <= radius**2


class Discs:
    """Answers a point with the disc that it lies in, as a mask head does.

    Args:
        discs: x, y and radius of each, in [0, 1].
    """

    def __init__(self, *discs: tuple[float, float, float]) -> None:
        self.discs = discs
        self.masks = [disc(*d) for d in discs]
        cells = [m.reshape(GRID, 2, GRID, 2).mean((1, 3)) for m in self.masks]
        self.chance = np.sum(cells, axis=0).clip(0, 1).astype(np.float32)
        looks = np.eye(len(discs) + 1, dtype=np.float32)
        owner = np.where(self.chance > 0, np.argmax(cells, axis=0) + 1, 0)
        self.cells = looks[owner.ravel()]

    def __call__(self, points: Float32) -> tuple[Float32, Float32]:
        logits = np.full((len(points), SIDE, SIDE), -1, np.float32)
        for n, (x, y) in enumerate(points):
            for (cx, cy, r), mask in zip(self.discs, self.masks, strict=True):
                if (x - cx) ** 2 + (y - cy) ** 2 <= r**2:
                    logits[n][mask] = 1
                    break
        return logits, np.full(len(points), 0.9, np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_disc_is_one_thing(count: int):
    discs = Discs(*((0.25, 0.25, 0.2), (0.75, 0.3, 0.2), (0.4, 0.8, 0.15))[:count])
    found = shown_things(discs.chance, discs.cells, EVERYWHERE, discs, RULE)
    assert len(found) == count
    for mask in discs.masks:
        assert any((one.mask == mask).all() for one in found)


def test_a_thing_looks_as_its_cells_do():
    discs = Discs((0.25, 0.25, 0.2), (0.75, 0.75, 0.2))
    found = shown_things(discs.chance, discs.cells, EVERYWHERE, discs, RULE)
    assert sorted(int(one.look.argmax()) for one in found) == [1, 2]


def test_nothing_is_found_where_no_cell_shows_a_thing():
    discs = Discs((0.5, 0.5, 0.3))
    nothing = np.zeros_like(discs.chance)
    assert shown_things(nothing, discs.cells, EVERYWHERE, discs, RULE) == []


def test_the_border_around_the_picture_holds_no_thing():
    discs = Discs((0.25, 0.5, 0.2), (0.8, 0.5, 0.15))
    inside = EVERYWHERE.copy()
    inside[:, 3:] = False
    (one,) = shown_things(discs.chance, discs.cells, inside, discs, RULE)
    assert (one.mask == discs.masks[0]).all()


def test_masks_that_the_head_does_not_trust_are_left_out():
    discs = Discs((0.5, 0.5, 0.3))
    rule = RULE.model_copy(update={"sure": 0.95})
    assert shown_things(discs.chance, discs.cells, EVERYWHERE, discs, rule) == []


def test_no_more_things_are_told_than_the_bundle_allows():
    discs = Discs((0.25, 0.25, 0.2), (0.75, 0.3, 0.2), (0.4, 0.8, 0.15))
    rule = RULE.model_copy(update={"most": 2})
    assert len(shown_things(discs.chance, discs.cells, EVERYWHERE, discs, rule)) == 2
