from __future__ import annotations

import pytest

from benchmarks.endurance import MARKS, endure, growth


def test_a_short_run_is_watched_to_its_end(nano, tmp_path):
    marks, summary = endure(nano.root, 6000, tmp_path)
    assert len(marks) == MARKS
    assert summary.frames.read == 6000
    assert summary.frames.dropped["sampled"] == 5900
    assert summary.frames.answered + summary.frames.reused == 100
    assert {mark.threads for mark in marks} == {marks[0].threads}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_a_million_frames(nano, tmp_path):
    marks, summary = endure(nano.root, 1_000_000, tmp_path)
    assert summary.frames.read == 1_000_000
    assert growth(marks) < 1.01
    assert marks[-2].descriptors == marks[0].descriptors
    assert marks[-2].threads == marks[0].threads
    half = marks[len(marks) // 2]
    assert marks[-2].store_kb < 1.2 * half.store_kb  # retention holds
