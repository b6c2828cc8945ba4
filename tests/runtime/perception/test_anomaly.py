"""Good pictures teach what is unlike: on a drawn part, with the built-in model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.drawn_part import SCREW, part
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import BankError, ContractError, ImageError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.anomaly import NormalBank, anomaly, teach_normal
from edgevlm.runtime.perception.overlay import heat
from edgevlm.runtime.perception.sentence import sentence

GOOD = [part(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def model(nano: Bundle) -> Iterator[Vlm]:
    """The built-in model."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def bank(model: Vlm) -> NormalBank:
    """Four good pictures of a fixed camera."""
    return teach_normal(model, GOOD, fixed=True)


def overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The part of ``other`` that ``box`` covers."""
    wide = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    high = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    return wide * high / ((other[2] - other[0]) * (other[3] - other[1]))


def test_a_missing_screw_is_found_where_it_was(model: Vlm, bank: NormalBank):
    found = anomaly(model, part(50, screw=False), bank)
    assert found.unlike
    assert overlap(found.regions[0].box_xyxy, SCREW) > 0.5
    assert sentence(found, bank).startswith("Unlike the 4 good pictures in ")
    assert "bottom right" in sentence(found, bank)


def test_a_scratch_is_found_and_good_parts_are_not(model: Vlm, bank: NormalBank):
    scratched = [anomaly(model, part(seed, scratch=True), bank) for seed in range(60, 64)]
    good = [anomaly(model, part(seed), bank) for seed in range(70, 78)]
    assert all(one.unlike for one in scratched)
    assert not any(one.unlike for one in good)
    assert sentence(good[0], bank).startswith("Like the 4 good pictures (score ")


def test_one_good_picture_is_enough_to_find_a_missing_screw(model: Vlm):
    alone = teach_normal(model, GOOD[:1], fixed=True, false_alarms=0.05)
    assert alone.rule.pictures == 1
    assert anomaly(model, part(51, screw=False), alone).unlike
    assert not anomaly(model, part(71), alone).unlike


def test_the_map_has_no_value_beside_the_picture(model: Vlm, bank: NormalBank):
    found = anomaly(model, GOOD[0], bank)
    centres = (np.arange(28) + 0.5) * 8  # of rows of patches, in pixels of the encoder's input
    beside = (centres < 28) | (centres >= 196)  # the letterbox above and below
    assert (np.isnan(found.map).all(1) == beside).all()
    assert np.isfinite(found.map[~beside]).all()
    picture = heat(part(52, screw=False), anomaly(model, part(52, screw=False), bank))
    assert picture.shape == (240, 320, 3)
    assert (picture != part(52, screw=False)).any()


def test_a_bank_comes_back_from_disk_and_judges_the_same(
    tmp_path: Path, model: Vlm, bank: NormalBank
):
    bank.save(tmp_path / "part.npz")
    again = NormalBank.load(tmp_path / "part.npz", model)
    assert again.rule == bank.rule
    picture = part(53, screw=False)
    before, after = anomaly(model, picture, bank), anomaly(model, picture, again)
    assert after.score == pytest.approx(before.score, abs=2e-3)  # patches are kept in 16 bits
    assert [p.name for p in tmp_path.iterdir()] == ["part.npz"]


@pytest.mark.parametrize(("count", "said"), [(0, "0 good pictures"), (51, "51 good pictures")])
def test_too_few_and_too_many_pictures(model: Vlm, count: int, said: str):
    with pytest.raises(ContractError, match=f"{said}: wanted 1 to 50"):
        teach_normal(model, GOOD[:1] * count)


def test_pictures_that_do_not_fit(tmp_path: Path, model: Vlm, bank: NormalBank):
    small = np.ascontiguousarray(GOOD[0][::2, ::2])
    with pytest.raises(ContractError, match="of one size, got 160x120, 320x240"):
        teach_normal(model, [GOOD[0], small], fixed=True)
    with pytest.raises(ContractError, match="a picture of 160x120; this bank is of a fixed camera"):
        anomaly(model, small, bank)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ImageError, match=r"broken\.png"):
        teach_normal(model, [GOOD[0], str(broken)])
    with pytest.raises(ContractError, match="wanted a share between 0 and 1"):
        teach_normal(model, GOOD, false_alarms=0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rule: {**rule, "encoder": "0" * 64}, "another encoder"),
        (lambda rule: {**rule, "kind": "things"}, "no bank of good pictures: kind"),
        (lambda rule: {**rule, "version": 2}, "no bank of good pictures: version"),
        (lambda _: [], "its rule is a list"),
    ],
)
def test_a_bank_with_another_rule_is_refused(
    tmp_path: Path, model: Vlm, bank: NormalBank, change: object, said: str
):
    assert callable(change)
    bank.save(tmp_path / "bank.npz")
    with np.load(tmp_path / "bank.npz") as kept:
        arrays = dict(kept)
    rule = change(json.loads(arrays.pop("rule").tobytes()))
    told = np.frombuffer(json.dumps(rule).encode(), np.uint8)
    np.savez(tmp_path / "other.npz", rule=told, **arrays)
    with pytest.raises(BankError, match=said):
        NormalBank.load(tmp_path / "other.npz", model)


def test_damaged_banks_are_refused(tmp_path: Path, model: Vlm, bank: NormalBank):
    path = tmp_path / "bank.npz"
    with pytest.raises(BankError, match="edgevlm teach makes one"):
        NormalBank.load(path, model)
    bank.save(path)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BankError, match="no bank, or damaged"):
            NormalBank.load(path, model)
    with np.load(_saved(path, whole)) as kept:
        arrays = dict(kept)
    for name, value in {
        "features": arrays["features"][:, :3], "places": arrays["places"][:5],
    }.items():  # fmt: skip
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(BankError, match="are no patches of"):
            NormalBank.load(path, model)
    np.savez(path, rule=np.array([object()], object))
    with pytest.raises(BankError, match="no bank, or damaged"):  # nothing is unpickled
        NormalBank.load(path, model)


def _saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_commands(tmp_path: Path, nano: Bundle, capsys: pytest.CaptureFixture[str]):
    good = tmp_path / "good"
    good.mkdir()
    for n, picture in enumerate(GOOD):
        Image.fromarray(picture).save(good / f"{n}.png")
    bad = tmp_path / "bad.png"
    Image.fromarray(part(54, screw=False)).save(bad)
    bank, shown = str(tmp_path / "part.npz"), tmp_path / "shown.png"
    words = ["teach", str(nano.root), str(good), "-o", bank, "--fixed"]
    assert run_command(words) == 0
    assert "4 pictures" in capsys.readouterr().out
    assert run_command(words) == 1
    assert "is already there: --force replaces it" in capsys.readouterr().err
    assert run_command(["anomaly", str(nano.root), str(bad), "--bank", bank, "-o", str(shown),
                        "--json"]) == 0  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["unlike"] is True
    assert overlap(tuple(said["boxes_xyxy"][0]), SCREW) > 0.5
    with Image.open(shown) as picture:
        assert picture.size == (320, 240)
    assert run_command(["anomaly", str(nano.root), str(good), "--bank", bank]) == 0
    assert capsys.readouterr().out.count("Like the 4 good pictures") == 4
    assert run_command(["anomaly", str(nano.root), str(good), "--bank", bank, "-o",
                        str(shown)]) == 2  # fmt: skip
    (tmp_path / "empty").mkdir()
    assert run_command(["teach", str(nano.root), str(tmp_path / "empty"), "-o", bank]) == 1
