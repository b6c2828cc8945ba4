from __future__ import annotations

from benchmarks.eight_cameras import FPS, Camera, Watched, measure, scenes
from benchmarks.gating import GATES


class Seeing(Camera):
    """Knows the scenes' times without drawing them."""

    def __init__(self, late_s: float) -> None:
        self._late = round(late_s * FPS)


def test_a_scene_is_lost_if_none_of_its_frames_was_let_through():
    camera = Seeing(late_s=1.0)  # its second scene begins at frame 90, then every 120
    seen = Watched(passed=[0, 92, 330], last=400)
    assert scenes(camera, seen) == (3, 1, [0, 2])  # the third, 210 to 329; the fourth still runs
    assert scenes(camera, Watched(passed=[0], last=50)) == (0, 0, [])


def test_two_cameras_are_watched_for_a_while(monkeypatch):
    monkeypatch.setattr("benchmarks.eight_cameras.SIZE", "64x36")
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    found = measure(2, 0.5, next(iter(GATES)), 2)
    assert found["cameras"] == 2
    assert 2 <= int(str(found["frames_seen"])) <= 34
    assert found["scenes_lost"] == 0
