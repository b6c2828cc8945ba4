"""Gates by themselves and in a chain; what they see is made up here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.frame import ArrayPixels, Frame
from edgevlm.gates import FeatureSection, PixelSection, SceneSection, SilenceSection
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.feature import FeatureGate
from edgevlm.runtime.stream.gates.scene import SceneGate
from edgevlm.runtime.stream.gates.silence import SilenceGate
from edgevlm.runtime.stream.gates.tilling import Boundaries, LeftDepth
from edgevlm.runtime.stream.gates.view import View


def view(now_s: float = 0.0, grey: int = 90) -> View:
    pixels = ArrayPixels(np.full((36, 64, 3), grey, np.uint8))
    frame = Frame(index=0, pixels=pixels, captured_ns=0, monotonic_ns=0)
    return View(frame, now_s, lambda _: pytest.fail("no model is needed"))


class Says:
    """A gate with given verdicts."""

    def __init__(self, *verdicts) -> None:
        self.measure = None
        self._verdicts = iter(verdicts)
        self.settled = []

    def look(self, _view):
        return next(self._verdicts)

    def settle(self, answered):
        self.settled.append(answered)


def chain(*gates) -> Chain:
    sections = [PixelSection(name=f"g{n}") for n in range(len(gates))]
    return Chain(list(zip(sections, gates, strict=True)), Encoders())


def decided(gates: Chain, frames: int) -> list[tuple[str, str | None]]:
    """What becomes of frames, each answered at once where it is to be."""
    found = []
    for _ in range(frames):
        said = gates.decide(view())
        if said.do == "answer":
            gates.accept()
        found.append((said.do, said.by))
    return found


def test_without_gates_every_frame_is_answered():
    assert decided(chain(), 2) == [("answer", None)] * 2
    assert chain().totals() == ()
    assert chain().moved_on(view().frame)


def test_the_first_gate_with_something_against_a_frame_decides_and_no_other_is_asked():
    first, second = Says("new", "same", "new"), Says("new", "moving")
    gates = chain(first, second)
    assert decided(gates, 3) == [("answer", None), ("reuse", "g0"), ("moving", "g1")]
    assert [(t.asked, t.stopped, t.due) for t in gates.totals()] == [(3, 1, 0), (2, 1, 0)]
    assert first.settled == second.settled == [True]  # a view in motion settles nothing


def test_the_same_as_a_frame_that_was_dropped_is_dropped_without_asking_again():
    cheap, dear = Says("new", "same", "same", "new", "same"), Says("absent", "new")
    gates = chain(cheap, dear)
    assert decided(gates, 5) == [
        ("absent", "g1"), ("absent", "g0"), ("absent", "g0"), ("answer", None), ("reuse", "g0")
    ]  # fmt: skip
    assert cheap.settled == dear.settled == [False, True]


def test_what_is_the_same_is_said_of_the_frame_that_this_gate_knows():
    before, behind = Says("new", "absent", "new"), Says("new", "same")
    assert decided(chain(before, behind), 3) == [
        ("answer", None), ("absent", "g0"), ("reuse", "g1")
    ]  # fmt: skip


def test_a_frame_that_is_due_is_answered_and_the_gates_behind_know_it():
    before, due, behind = Says("new", "new"), Says("due", "new"), Says("same", "same")
    gates = chain(before, due, behind)
    assert decided(gates, 2) == [("answer", "g1"), ("reuse", "g2")]
    assert behind.settled == [True]
    assert [(t.asked, t.stopped, t.due) for t in gates.totals()] == [
        (2, 0, 0), (2, 0, 1), (2, 1, 0)
    ]  # fmt: skip


def test_silence_ends_after_so_long_and_an_unanswered_frame_does_not_end_it():
    gate, said = SilenceGate(SilenceSection(every_s=2)), []
    for now in (0, 1, 2, 3, 4, 5):
        said.append(gate.look(view(now)))
        if now in (0, 4):
            gate.settle(answered=True)
        elif said[-1] == "due":
            gate.settle(answered=False)
    assert said == ["new", "new", "due", "due", "due", "new"]
    assert gate.look(view(0.5)) == "new"  # the source began again
    assert gate.look(view(2.5)) == "due"


class Rows:
    """Stands for an encoder: features are given."""

    def __init__(self, *rows) -> None:
        self._rows = iter(rows)

    def patches(self, _view):
        return next(self._rows).astype(np.float32)

    def whole(self, _view):
        return next(self._rows).astype(np.float32)


def let_through(gate, count: int) -> list[int]:
    found = []
    for n in range(count):
        if gate.look(view(n / 10)) == "new":
            gate.settle(answered=True)
            found.append(n)
    return found


def features(seed: int = 1, offset: float = 0.0) -> np.ndarray:
    """Patches of one picture, with what all pictures of an encoder have in common."""
    return np.random.default_rng(seed).normal(0, 1, (49, 64)) + offset


@pytest.mark.parametrize("scale", [1e-3, 1.0, 500.0])
@pytest.mark.parametrize("offset", [0.0, 6.0])
def test_one_patch_that_changes_is_new_whatever_an_encoders_numbers_are(scale, offset):
    rng, frames = np.random.default_rng(2), []
    for n in range(60):
        rows = features(offset=offset) + rng.normal(0, 0.05, (49, 64))
        if n >= 40:
            rows[17] = features(3, offset)[17]
        frames.append(rows * scale)
    assert let_through(FeatureGate(FeatureSection(), Rows(*frames)), 60) == [0, 40]


def test_features_that_drift_are_answered_anew_although_no_step_shows():
    begin, end = features(4), features(5)
    turned = [begin * np.cos(t) + end * np.sin(t) for t in np.linspace(0, np.pi, 200)]
    let = let_through(FeatureGate(FeatureSection(), Rows(*turned)), 200)
    assert 4 <= len(let) <= 60
    assert max(np.diff(let)) < 60


def test_patches_that_flicker_are_learnt():
    rng, frames = np.random.default_rng(6), []
    for n in range(200):
        rows = features() + rng.normal(0, 0.02, (49, 64))
        rows[:5] += rng.normal(0, 0.25, (5, 64))
        if n == 150:
            rows[30] = features(7)[30]
        frames.append(rows)
    let = let_through(FeatureGate(FeatureSection(), Rows(*frames)), 200)
    assert [n for n in let if n >= 40] == [150, 151]  # and back again


def test_another_number_of_patches_is_new():
    frames = [features(), features(), features()[:30], features()[:30]]
    assert let_through(FeatureGate(FeatureSection(), Rows(*frames)), 4) == [0, 2]


def left_depths(similarities: list[float]) -> list[float]:
    """By the definition: climb left while it does not go down."""
    found = []
    for i in range(len(similarities)):
        at = i
        while at and similarities[at - 1] >= similarities[at]:
            at -= 1
        found.append(similarities[at] - similarities[i])
    return found


@given(st.lists(st.sampled_from([-1.0, -0.2, 0.0, 0.5, 0.9, 1.0]), max_size=40))
def test_one_number_carries_the_climb_to_the_left_on(similarities):
    depths = LeftDepth()
    assert [depths.push(s) for s in similarities] == left_depths(similarities)


def test_a_valley_is_a_boundary_and_noise_is_none():
    rng, boundaries, found = np.random.default_rng(8), Boundaries(3.0, 0.05), []
    for n in range(400):
        similarity = 0.2 if n in (100, 300) else 0.95 + rng.normal(0, 0.01)
        if boundaries.push(similarity, 0.1)[1]:
            found.append(n)
    assert found == [100, 300]


def scenes(*lengths: int) -> list[np.ndarray]:
    rng, frames = np.random.default_rng(9), []
    for scene, length in enumerate(lengths):
        frames += [features(scene)[0] + rng.normal(0, 0.1, 64) for _ in range(length)]
    return frames


def test_every_scene_is_answered_once():
    frames = scenes(30, 40, 20, 50)
    gate = SceneGate(SceneSection(on="features"), Rows(*frames))
    assert let_through(gate, 140) == [0, 30, 70, 90]
    assert gate.measure < 0.1


def test_a_scene_stays_new_until_it_is_decided_and_lasts_for_a_while():
    gate = SceneGate(SceneSection(on="features", least_s=1.0), Rows(*scenes(20, 3, 20)))
    said = []
    for n in range(43):
        said.append(gate.look(view(n / 10)))
        if n in (5, 21):
            gate.settle(answered=True)
    assert said[:6] == ["new"] * 6
    assert set(said[6:20]) == {"same"}
    assert said[20:22] == ["new", "new"]
    assert set(said[22:31]) == {"same"}  # of frame 23, less than a second after 21
    assert said[31] == "new"


def test_a_cut_shows_in_the_brightness():
    gate, rng = SceneGate(SceneSection()), np.random.default_rng(10)
    found = []
    for n in range(60):
        shot = np.random.default_rng(n // 20).integers(20, 230, (9, 16)).astype(np.uint8)
        picture = np.kron(shot, np.ones((8, 8), np.uint8)).astype(int) + rng.integers(-3, 4)
        pixels = ArrayPixels(np.repeat(picture[:, :, None], 3, 2).astype(np.uint8))
        frame = Frame(index=n, pixels=pixels, captured_ns=0, monotonic_ns=0)
        if gate.look(View(frame, n / 10, lambda _: pytest.fail("no model"))) == "new":
            gate.settle(answered=True)
            found.append(n)
    assert found == [0, 20, 40]
