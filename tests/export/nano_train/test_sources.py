"""Training pictures: the same for everybody, and never of what is held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgevlm.errors import ContractError
from edgevlm.export.nano_data.emoji import FONT
from edgevlm.export.nano_data.questions import CANNOT_TELL, answers_to
from edgevlm.export.nano_data.scenes import BACKGROUNDS
from edgevlm.export.nano_data.stamps import FOLDER, Stamp, is_held_out
from edgevlm.export.nano_train.cache import ARRAYS, SHARD, Cache, fill
from edgevlm.export.nano_train.sources import (
    CUT_OUTS,
    EVALUATION,
    OTHERS,
    scene_maker,
    training_picture,
)
from tests.conftest import missing


@pytest.fixture(autouse=True)
def installed():
    for path, package in (
        (FOLDER, "tuxpaint-stamps-default"),
        (BACKGROUNDS, "mate-backgrounds"),
        (FONT, "fonts-noto-color-emoji"),
    ):
        if not path.exists():
            missing(f"needs Debian's {package}")


def test_no_cut_out_of_training_is_held_out():
    stamps = [c for group in scene_maker().cut_outs for c in group if isinstance(c, Stamp)]
    assert len(stamps) > 400
    assert not [s.path for s in stamps if is_held_out(s.path)]


@pytest.mark.parametrize("kind", [CUT_OUTS, OTHERS])
def test_a_number_is_one_picture(kind):
    first, asked = training_picture(kind, 7)
    again, asked_again = training_picture(kind, 7)
    other, _ = training_picture(kind, 8)
    np.testing.assert_array_equal(first.image_rgb, again.image_rgb)
    assert asked == asked_again
    assert not np.array_equal(first.image_rgb, other.image_rgb)


def test_numbers_of_evaluation_are_refused():
    with pytest.raises(ContractError, match="below 1000000"):
        training_picture(CUT_OUTS, EVALUATION)


def test_answers_are_true_and_come_in_pairs():
    answers: dict[str, Counter[str]] = {}
    for n in range(150):
        picture, asked = training_picture(CUT_OUTS, n)
        names = [t.name for t in picture.things]
        for question in asked:
            answers.setdefault(question.kind, Counter())[question.answer] += 1
            if question.kind == "count" and question.text.startswith("How many things"):
                assert question.answer == str(len(names))
            if question.kind == "name" and len(names) == 1:
                assert question.answer == names[0]
            if question.kind == "presence":
                there = any(
                    f" {w} " in f" {question.text[:-1]} " for n in names for w in answers_to(n)
                )
                assert there or question.answer == "no"
    yes, no = answers["presence"]["yes"], answers["presence"]["no"]
    assert 0.7 < yes / no < 1.4
    where = answers["where"]
    assert 0.6 < where["left"] / where["right"] < 1.6
    assert set(answers["unanswerable"]) == {CANNOT_TELL}


def test_a_cache_is_made_once_and_goes_on(tmp_path):
    assert list(fill(tmp_path, OTHERS, SHARD, seed=0, workers=1)) == [0, SHARD]
    before = (tmp_path / "00000/fine.npy").stat().st_mtime_ns
    assert list(fill(tmp_path, OTHERS, SHARD, seed=0, workers=1)) == [SHARD]
    assert (tmp_path / "00000/fine.npy").stat().st_mtime_ns == before
    cache = Cache(tmp_path, SHARD)
    batch = cache.batch(np.array([3, 0]))
    assert {name: batch[name].shape[:2] for name in ARRAYS} == {
        "fine": (2, 40), "middle": (2, 112), "narrow": (2, 320), "cover": (2, 5),
    }  # fmt: skip
    picture, asked = training_picture(OTHERS, 3)
    assert cache.told[3].names == tuple(t.name for t in picture.things)
    assert cache.told[3].questions == tuple(asked)
