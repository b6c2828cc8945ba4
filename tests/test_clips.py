from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips.camera import Camera
from benchmarks.clips.catalogue import FIXED_CAMERA, clip, names
from benchmarks.clips.clip import Clip
from benchmarks.clips.filmed import frames
from benchmarks.clips.real import VTEST, street
from benchmarks.gate_metrics import Verdict
from benchmarks.gating import made, passed_by, table
from edgevlm.bundle import Bundle
from edgevlm.export.nano_data.stamps import FOLDER, PACKAGE
from edgevlm.frame import UInt8
from tests.conftest import missing

GREY = np.full((64, 96, 3), 120, np.uint8)


def needs_stamps() -> None:
    if not FOLDER.is_dir():
        missing(f"Debian's package {PACKAGE} is not installed")


def test_a_sensor_has_the_noise_it_says():
    seen = np.stack(list(Camera(seed=1, noise=5.0).film([GREY] * 12, 10))).astype(float)
    assert seen.std(0).mean() == pytest.approx(5.0, rel=0.1)
    assert seen.mean() == pytest.approx(120, abs=0.3)
    again = np.stack(list(Camera(seed=1, noise=5.0).film([GREY] * 12, 10)))
    assert (seen == again).all()


def test_light_drifts_there_and_back_and_jumps():
    drifting = Camera(seed=1, noise=0, drift=0.5, drift_s=2, warmer=0.2)
    seen = [f.mean((0, 1)) for f in drifting.film([GREY] * 41, 10)]
    assert seen[0] == pytest.approx([120, 120, 120], abs=1)
    assert seen[20] == pytest.approx([72, 60, 48], abs=1)
    assert seen[40] == pytest.approx(seen[0], abs=1)
    jumping = Camera(seed=1, noise=0, exposure=0.2, exposure_every_s=0.5)
    levels = [f.mean() for f in jumping.film([GREY] * 60, 10)]
    assert len(set(levels)) > 3
    assert 120 * 0.8 - 1 <= min(levels) <= max(levels) <= 120 * 1.2 + 1


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_what_is_filmed_comes_back_frame_by_frame(codec: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path))

    def pictures() -> Iterator[UInt8]:
        for n in range(12):
            picture = GREY.copy()
            picture[:, : 8 * n] = 220
            yield picture

    camera = Camera(seed=1, noise=1.0, codec=codec, quality=4 if codec == "mjpeg" else 12)
    made_of = Clip(
        name=f"bars-{codec}", role="tune", what="", fps=10, count=12, changes=(),
        pictures=pictures, camera=camera,
    )  # fmt: skip
    for _ in range(2):  # the second time from the file
        got = list(frames(made_of))
        assert [f.index for f in got] == list(range(12))
        assert got[-1].media_s == pytest.approx(1.1)
        for n, frame in enumerate(got):
            bright = (frame.pixels.luma()[32] > 170).sum()
            assert bright == pytest.approx(8 * n, abs=2)
    assert len(list((tmp_path / "clips").iterdir())) == 1


def test_the_station_labels_what_its_pictures_show():
    of = clip("station-tune")
    assert of.changes == clip("station-tune").changes
    pictures = dict(enumerate(of.pictures()))
    assert len(pictures) == of.count
    for change in of.changes:
        moved = np.abs(pictures[change.begun - 1].astype(int) - pictures[change.frame]).max(2) > 8
        x0, y0, x1, y1 = change.box_xyxy
        assert moved[y0:y1, x0:x1].sum() == moved.sum() == change.area_px
    changing = {n for c in of.changes for n in range(c.begun, c.frame + 1)}
    for n in range(1, of.count):
        if n not in changing:
            assert (pictures[n] == pictures[n - 1]).all()


def test_who_may_tune_and_who_judges():
    assert len(names("judge")) >= 6
    assert all(name.endswith("-tune") for name in names("tune"))
    assert not {"street-tune", FIXED_CAMERA} & set(names())
    with pytest.raises(ValueError, match="only judges"):
        street("tune")
    with pytest.raises(ValueError, match="no clip is called"):
        clip("street-tune")


@pytest.mark.parametrize("role", ["tune", "judge"])
def test_clips_that_tune_show_no_stamp_that_judges(role: str):
    needs_stamps()
    of = clip(f"quiet-{role}")
    assert of.changes == ()
    from benchmarks.clips.compositions import stamps_of

    assert {stamp.held_out for stamp in stamps_of(of.role)} == {role == "judge"}


@pytest.mark.slow
def test_the_clips_that_judge_hold_300_changes():
    needs_stamps()
    if not VTEST.is_file():
        missing("Debian's package opencv-doc is not installed")
    found = [len(clip(name).changes) for name in names("judge")]
    assert sum(found) >= 300
    assert sum(1 for count in found if count) >= 6


def test_a_gate_is_measured_over_a_clip(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path))

    def pictures() -> Iterator[UInt8]:
        for n in range(30):
            yield GREY if n < 15 else 255 - GREY // 2

    of = Clip(
        name="step-tune", role="tune", what="", fps=10, count=30, changes=(), pictures=pictures,
        camera=Camera(seed=1, noise=1.0),
    )  # fmt: skip
    passed, cost = passed_by({"pixel": made("pixel"), "deaf": made("scene:least_depth=2.0")}, of)
    assert passed == {"pixel": [0, 15], "deaf": [0]}
    assert len(cost["pixel"]) == 30
    with pytest.raises(ValueError, match="no gate is called"):
        made("nonsense")


def test_a_gate_that_looks_through_an_encoder_and_one_that_waits_are_measured_too(
    nano: Bundle, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path))
    noise = np.random.default_rng(1).integers(0, 255, (2, 12, 16, 3), np.uint8)
    scenes = noise.repeat(8, axis=1).repeat(8, axis=2)
    of = Clip(
        name="cut-tune", role="tune", what="", fps=10, count=8, changes=(),
        pictures=lambda: iter(scenes[[0, 0, 0, 0, 1, 1, 1, 1]]), camera=Camera(seed=1, noise=0.5),
    )  # fmt: skip
    gates = {"motion": made("motion:still_s=0.2"), "feature": made(f"feature:bundle={nano.root}")}
    passed, _ = passed_by(gates, of)
    assert passed["feature"] == [0, 4]
    assert 4 not in passed["motion"]
    assert 7 in passed["motion"]
    for gate in gates.values():
        gate.close()


def test_the_table_has_a_line_for_every_clip():
    looked_at = Verdict(frames=100, passed=3, judged_frames=100)
    lines = table({"quiet-tune": looked_at, "all": looked_at}).splitlines()
    assert [line.split()[0] for line in lines] == ["clip", "quiet-tune", "all"]
    assert "97.0" in lines[1]
    assert len({len(line) for line in lines}) == 1
