"""Frames under one budget: what each gets, and whether coarser rows are the right means."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.bundle.images import AnyResolution, Expansion, Fit, Idefics3Tiles, ImageSpec
from edgevlm.errors import ConfigError
from edgevlm.runtime.model.fewer_rows import fewer, pool, row_count
from edgevlm.runtime.model.frame_packing import pack, share
from edgevlm.runtime.model.vision import Encoded, Segment

SQUARE = ImageSpec(policy=Fit(height=64, width=64, fit="stretch"))
WIDE = ImageSpec(policy=Fit(height=64, width=256, fit="stretch"))
RANDOM = np.random.default_rng(5)


def rows(count: int, width: int = 6) -> np.ndarray:
    return RANDOM.normal(size=(count, width)).astype(np.float32)


def picture(count: int) -> Encoded:
    return Encoded(segments=(Segment(rows(count)),))


@pytest.mark.parametrize(
    ("grid", "target"), [((4, 4), (2, 2)), ((7, 7), (3, 3)), ((6, 9), (4, 5)), ((3, 5), (3, 5))]
)
def test_coarser_rows_are_the_means_that_torch_takes(
    grid: tuple[int, int], target: tuple[int, int]
):
    torch = pytest.importorskip("torch")
    fine = rows(grid[0] * grid[1])
    plane = torch.from_numpy(fine.T.reshape(1, -1, *grid).copy())
    expected = torch.nn.functional.adaptive_avg_pool2d(plane, target).numpy()
    found = pool(fine, grid, target)
    np.testing.assert_allclose(found, expected.reshape(fine.shape[1], -1).T, atol=1e-6)


def test_a_picture_that_fits_is_left_as_it_is():
    whole = picture(16)
    assert fewer(whole, 16, SQUARE) is whole


def test_a_picture_gets_the_largest_grid_that_fits():
    shown = fewer(picture(16), 10, SQUARE)
    assert shown is not None
    assert row_count(shown) == 9


def test_rows_of_no_known_grid_and_tiny_shares_are_refused():
    assert fewer(picture(16), 9, WIDE) is None  # 4 by 4 of a wide picture would be an accident
    assert fewer(picture(15), 9, SQUARE) is None
    assert fewer(picture(16), 3, SQUARE) is None


def test_positions_and_deepstack_follow_the_grid():
    segment = Segment(rows(24), deepstack=np.stack([rows(24), rows(24)]), grid=(4, 6))
    shown = fewer(Encoded(segments=(segment,)), 6, WIDE)
    assert shown is not None
    (coarse,) = shown.segments
    assert coarse.grid == (2, 3)
    assert len(coarse.rows) == 6
    assert segment.deepstack is not None
    assert coarse.deepstack is not None
    np.testing.assert_allclose(
        coarse.deepstack[1], pool(segment.deepstack[1], (4, 6), (2, 3)), atol=1e-6
    )


def test_of_tiles_the_whole_picture_stays_and_is_written_as_one():
    spec = ImageSpec(
        policy=Idefics3Tiles(longest=96, tile=48),
        expansion=Expansion(prefix="<", single="g", before_whole="w", suffix=">"),
    )
    tiles = tuple(Segment(rows(9)) for _ in range(5))
    cut = Encoded(segments=tiles, expansion=("<", 0, 1, 2, 3, "w", 4, ">"), whole=4)
    shown = fewer(cut, 9, spec)
    assert shown is not None
    assert shown.expansion == ("<g", 0, ">")
    np.testing.assert_array_equal(shown.segments[0].rows, tiles[4].rows)
    smaller = fewer(cut, 8, spec)
    assert smaller is not None
    assert row_count(smaller) == 4


def test_the_newline_behind_a_padded_square_stays():
    policy = AnyResolution(tile=48, canvases=((48, 96),), side=4)
    square = rows(17)
    shown = fewer(Encoded(segments=(Segment(square),)), 5, ImageSpec(policy=policy))
    assert shown is not None
    assert row_count(shown) == 5
    np.testing.assert_array_equal(shown.segments[0].rows[-1], square[-1])


def test_shares_are_whole_and_leave_nothing():
    assert share(10, [1, 1, 1]) == [4, 3, 3]
    assert share(7, [3, 1]) == [5, 2]
    assert share(0, [1, 2]) == [0, 0]


@pytest.mark.parametrize(
    ("budget", "most", "expected"),
    [
        (32, 5, [4, 4, 4, 4, 16]),  # the rest of the budget, in quarters
        (32, 3, [4, 4, 16]),  # half of the rest each: nine would be one too many
        (25, 5, [4, 4, 16]),  # no frame under four rows
        (16, 5, [16]),
        (9, 5, [9]),  # the newest one coarse, and nothing beside it
    ],
)
def test_the_budget_is_never_exceeded(budget: int, most: int, expected: list[int]):
    frames = [picture(16) for _ in range(7)]
    found = pack(frames, [0.0] * 7, budget=budget, most=most, spec=SQUARE)
    assert [part.rows for part in found] == expected
    assert found[-1].number == 6
    assert [row_count(part.encoded) for part in found] == expected


def test_the_best_older_frames_are_shown_in_order_of_time():
    frames = [picture(16) for _ in range(6)]
    scores = [0.1, 0.9, 0.2, 0.8, 0.1, 0.0]
    found = pack(frames, scores, budget=48, most=3, spec=SQUARE)
    assert [part.number for part in found] == [1, 3, 5]
    tied = pack(frames, [0.0] * 6, budget=48, most=3, spec=SQUARE)
    assert [part.number for part in tied] == [3, 4, 5]


def test_where_rows_cannot_be_averaged_fewer_frames_are_shown():
    frames = [picture(15) for _ in range(6)]
    found = pack(frames, [0.0] * 6, budget=40, most=5, spec=SQUARE)
    assert [part.rows for part in found] == [15, 15]


def test_a_budget_that_no_frame_fits_is_an_error():
    with pytest.raises(ConfigError, match=r"15 visual tokens.*window\.tokens = 8"):
        pack([picture(15)], [0.0], budget=8, most=5, spec=SQUARE)
