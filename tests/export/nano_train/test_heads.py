"""Heads that are saved compute what heads that are trained do."""

from __future__ import annotations

import pytest
import torch

from edgevlm.export.nano_train.heads import SIDES, NanoHeads, Trunk, windows
from edgevlm.export.nano_train.mask_head import MaskHead
from edgevlm.export.nano_train.seeing import folded, moments


@pytest.fixture(scope="module")
def stages() -> Trunk:
    torch.manual_seed(0)
    return Trunk(
        3 * torch.randn(4, 40, 28, 28) + 1,
        5 * torch.randn(4, 112, 14, 14) - 2,
        (torch.randn(4, 1280, 7, 7) * 2).clamp(0, 6),
    )


@torch.no_grad()
def test_the_standardisation_is_folded_into_the_first_convolutions(stages):
    heads = NanoHeads()
    found = moments(stages)
    plain = Trunk(
        *(
            (x - found[n][0][:, None, None]) / found[n][1][:, None, None]
            for n, x in zip(Trunk._fields, stages, strict=True)
        )
    )
    saved = NanoHeads()
    saved.load_state_dict(folded(heads, found))
    cells, again = heads.neck(plain), saved.neck(stages)
    torch.testing.assert_close(again, cells, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        saved.mask.embed(stages.fine, again), heads.mask.embed(plain.fine, cells),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_windows_cover_every_cell_and_look_over_their_edges():
    for side in SIDES:
        seen = windows(side, 14)
        assert seen.any(0).all()
        assert seen.sum(1).min() >= (14 // side) ** 2
    corner = windows(7, 14)[0].reshape(14, 14)
    assert corner[:3, :3].all()
    assert int(corner.sum()) == 9


@torch.no_grad()
def test_a_box_of_no_size_and_a_point_outside_are_prompts_too():
    head = MaskHead()
    embeddings = torch.randn(2, 256, 28, 28)
    points = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.1, 0.1], [0.9, 0.9]]])
    logits, scores = head(embeddings, points, torch.tensor([[2, 3], [1, 0]]))
    assert logits.shape == (2, 28, 28)
    assert torch.isfinite(logits).all()
    assert ((scores > 0) & (scores < 1)).all()
