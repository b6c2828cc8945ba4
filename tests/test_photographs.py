from __future__ import annotations

import pytest

from benchmarks.photographs import OPENCV, PHOTOGRAPHS, named, score
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm
from tests.conftest import missing


def test_nano_names_the_subject_of_most_photographs(nano):
    if not OPENCV.is_dir():
        missing("Debian's package opencv-doc is not installed")
    with Vlm(nano, open_backend()) as model:
        rows = score(model)
    assert len(rows) == len(PHOTOGRAPHS) >= 12
    hits = [photograph.file for photograph, _, hit in rows if hit]
    assert len(hits) >= 8, rows


@pytest.mark.parametrize(
    ("answer", "hit"),
    [
        ("A cat, asleep.", True),
        ("Two cats", True),
        ("An education in scats", False),
        ("", False),
    ],
)
def test_an_answer_counts_by_whole_words(answer, hit):
    assert named(answer, ("cat",)) is hit
