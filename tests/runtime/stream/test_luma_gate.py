from __future__ import annotations

import numpy as np

from edgevlm.runtime.stream.gates.luma import LumaGate


def scene(seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (9, 16)).astype(np.uint8)
    return np.kron(coarse, np.ones((120, 120), np.uint8))


def test_the_first_frame_counts_as_changed():
    assert LumaGate().differs(scene())


def test_sensor_noise_on_a_still_scene_does_not_count():
    gate, rng = LumaGate(), np.random.default_rng(2)
    gate.differs(scene())
    gate.accept()
    for _ in range(20):
        noisy = np.clip(scene() + rng.normal(0, 12, scene().shape), 0, 255).astype(np.uint8)
        assert not gate.differs(noisy)


def test_an_object_of_one_percent_of_the_picture_counts():
    gate, picture = LumaGate(), scene()
    gate.differs(picture)
    gate.accept()
    moved = picture.copy()
    moved[300:420, 500:680] = 255 - moved[300:420, 500:680] // 2  # 21600 of 2073600 pixels
    assert gate.differs(moved)


def test_the_anchor_is_the_answered_frame_and_not_the_last_one():
    gate, picture = LumaGate(), scene()
    gate.differs(picture)
    gate.accept()
    steps = [np.clip(picture.astype(int) + d, 0, 255).astype(np.uint8) for d in range(2, 14, 2)]
    assert [gate.differs(s) for s in steps] == [False, False, False, False, False, True]


def test_small_and_odd_pictures_are_taken():
    for shape in ((1, 1), (3, 5), (1, 700), (2161, 7)):
        gate = LumaGate()
        assert gate.differs(np.zeros(shape, np.uint8))
        gate.accept()
        assert not gate.differs(np.zeros(shape, np.uint8))
        assert gate.differs(np.full(shape, 255, np.uint8))
