from __future__ import annotations

import numpy as np
import pytest

from edgevlm.frame import ArrayPixels, Frame
from edgevlm.gates import MotionSection, PixelSection
from edgevlm.runtime.stream.gates.cells import exposure
from edgevlm.runtime.stream.gates.motion import MotionGate
from edgevlm.runtime.stream.gates.pixel import PixelGate
from edgevlm.runtime.stream.gates.view import View


class Luma(ArrayPixels):
    """A picture whose brightness is given."""

    def luma(self):
        return self.image_rgb[:, :, 0]


def view(luma: np.ndarray, now_s: float = 0.0) -> View:
    shown = np.clip(luma, 0, 255).astype(np.uint8)
    pixels = Luma(np.repeat(shown[:, :, None], 3, 2))
    frame = Frame(index=0, pixels=pixels, captured_ns=0, monotonic_ns=0)
    return View(frame, now_s, lambda _: pytest.fail("no model is needed"))


def scene(seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(30, 200, (9, 16)), np.ones((40, 40))).astype(np.float32)


def noisy(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return picture + rng.normal(0, sigma, picture.shape).astype(np.float32)


def answered(gate: PixelGate, frames) -> list[int]:
    """Indices of the frames that the gate lets through, each settled at once."""
    let = []
    for index, luma in enumerate(frames):
        if gate.look(view(luma)) == "new":
            gate.settle(answered=True)
            let.append(index)
    return let


def test_the_first_frame_is_new_until_it_is_decided():
    gate = PixelGate()
    assert [gate.look(view(scene())) for _ in range(3)] == ["new"] * 3
    gate.settle(answered=True)
    assert gate.look(view(scene())) == "same"


@pytest.mark.parametrize("sigma", [0, 3, 15])
def test_sensor_noise_on_a_still_scene_is_nothing_new(sigma):
    rng = np.random.default_rng(2)
    assert answered(PixelGate(), (noisy(scene(), sigma, rng) for _ in range(60))) == [0]


@pytest.mark.parametrize("sigma", [0, 4, 10])
def test_a_thing_of_half_a_percent_of_the_picture_is_new(sigma):
    rng, moved = np.random.default_rng(3), scene()
    moved[100:125, 200:246] += 45  # 1150 of 230400 pixels
    frames = [noisy(scene() if n < 40 else moved, sigma, rng) for n in range(60)]
    assert answered(PixelGate(), frames) == [0, 40]


def test_a_pattern_that_changes_under_one_mean_is_new():
    before = scene()
    before[120:180, 200:260] = 100
    after = before.copy()
    after[120:180, 200:260] += np.where(np.indices((60, 60)).sum(0) // 12 % 2, 40, -40)
    assert abs(after.mean() - before.mean()) < 0.5
    assert answered(PixelGate(), [before, before, after, after]) == [0, 2]


def test_a_slow_drift_is_answered_anew_although_no_step_shows():
    drifting = [scene() for _ in range(300)]
    for n, picture in enumerate(drifting):
        picture[40:80, 40:120] += n * 0.25
    let = answered(PixelGate(), drifting)
    assert len(let) >= 3
    assert max(np.diff(let)) <= 80  # 20 grey levels


def test_an_exposure_that_is_set_anew_is_nothing_new_and_a_thing_within_it_is():
    rng, gate = np.random.default_rng(4), PixelGate()
    gains = [1.0] * 20 + list(np.linspace(1, 1.25, 10)) + [1.25] * 30
    frames = [noisy(16 + (scene() - 16) * gain, 3, rng) for gain in gains]
    frames[50] = frames[50].copy()
    frames[50][100:140, 200:260] -= 60
    let = answered(gate, frames)
    assert let[:2] == [0, 50]


def test_a_lamp_that_is_switched_off_is_new():
    assert answered(PixelGate(), [scene(), scene(), scene() * 0.4]) == [0, 2]


def test_a_gain_of_the_sensor_that_rises_is_learnt():
    rng = np.random.default_rng(5)
    frames = [noisy(scene(), 3 if n < 60 else 12, rng) for n in range(160)]
    late = [n for n in answered(PixelGate(), frames) if n > 0]
    assert len(late) <= 4  # while it is learnt
    assert all(60 <= n < 70 for n in late)


def test_leaves_that_move_are_learnt_and_do_not_hide_what_happens_elsewhere():
    rng, frames = np.random.default_rng(6), []
    for n in range(200):
        picture = scene()
        picture[0:120, 0:160] += rng.normal(0, 6, (40, 54)).repeat(3, 0).repeat(3, 1)[:, :160]
        if n >= 150:
            picture[240:280, 480:540] += 50
        frames.append(picture)
    let = answered(PixelGate(), frames)
    assert [n for n in let if n >= 40] == [150]


def test_what_is_ignored_is_not_looked_at():
    clock = {"left": 0, "top": 0, "right": 0.25, "bottom": 0.1}
    gate = PixelGate(PixelSection(ignore=(clock,)))
    rng = np.random.default_rng(7)
    frames = [scene() for _ in range(30)]
    for picture in frames:
        picture[4:32, 4:150] = rng.integers(0, 2) * 255
    assert answered(gate, frames) == [0]
    assert len(answered(PixelGate(), frames)) > 5


def test_a_later_frame_has_moved_on_if_it_differs_from_the_one_looked_at():
    gate = PixelGate()
    gate.look(view(scene(1)))
    assert not gate.moved_on(view(scene(1)))
    assert gate.moved_on(view(scene(2)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 700), (2161, 7)])
def test_small_and_odd_pictures_are_taken(shape):
    frames = [np.zeros(shape), np.zeros(shape), np.full(shape, 255)]
    assert answered(PixelGate(), frames) == [0, 2]


def test_the_gain_is_that_of_most_blocks():
    rng = np.random.default_rng(8)
    before = rng.uniform(60, 150, (45, 80)).astype(np.float32)
    after = 16 + (before - 16) * 1.2
    after[:20] = rng.uniform(40, 200, (20, 80))
    assert exposure(after, before) == pytest.approx(1.2, rel=0.01)
    assert exposure(before * 0 + 5, before) == 1.0  # dark: no gain can be told


def test_a_view_in_motion_is_waited_for():
    gate, rng = MotionGate(MotionSection(still_s=0.5)), np.random.default_rng(9)
    wide = np.hstack([scene(1), scene(2)])
    said = []
    for n in range(60):
        left = 0 if n < 20 else min(n - 20, 20) * 12  # pans from frame 20 to 40
        said.append(gate.look(view(noisy(wide[:, left : left + 640], 4, rng), n / 10)))
    assert said[:5] == ["moving"] * 5  # nobody knows what was before
    assert set(said[5:21]) == {"new"}
    assert set(said[21:45]) == {"moving"}
    assert set(said[46:]) == {"new"}


def test_a_source_that_begins_again_is_still_after_the_same_time():
    gate = MotionGate(MotionSection(still_s=0.5))
    times = [0.0, 0.6, 90.0, 0.0, 0.6]
    said = [gate.look(view(scene(), t)) for t in times]
    assert said == ["moving", "new", "new", "moving", "new"]
