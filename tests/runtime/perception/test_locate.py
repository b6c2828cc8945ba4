"""A thing that was shown twice is found again, and others are not taken for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import BankError, ContractError, ImageError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.anomaly import NormalBank, teach_normal
from edgevlm.runtime.perception.locate import locate, overlap
from edgevlm.runtime.perception.sentence import things_seen
from edgevlm.runtime.perception.teach_thing import Shot, teach_thing, threshold
from edgevlm.runtime.perception.things import Thing, load_things
from tests.runtime.perception.stickers import scene, shots


@pytest.fixture(scope="module")
def model(nano: Bundle) -> Iterator[Vlm]:
    """The built-in model."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded


def taught(model: Vlm, name: str, count: int = 2) -> Thing:
    """A thing with the boxes of its pictures."""
    return teach_thing(model, name, [Shot(image=i, box_xyxy=b) for i, b in shots(name, count)])


@pytest.fixture(scope="module")
def cat(model: Vlm) -> Thing:
    """Shown in two pictures."""
    return taught(model, "cat")


@pytest.fixture(scope="module")
def cup(model: Vlm) -> Thing:
    """Shown in one."""
    return taught(model, "cup", 1)


def test_things_are_found_where_they_are_and_told_apart(model: Vlm, cat: Thing, cup: Thing):
    picture, boxes = scene([("face", 20, 20, 120), ("cat", 300, 30, 140), ("cup", 60, 190, 150)])
    seen = locate(model, picture, [cat, cup])
    where = {one.name: one.box_xyxy for one in seen.found}
    assert sorted(where) == ["cat", "cup"]
    assert overlap(where["cat"], boxes[1]) > 0.6
    assert overlap(where["cup"], boxes[2]) > 0.6
    said = things_seen(seen.found, picture.shape[:2])
    assert "cat top right" in said
    assert "cup bottom left" in said


def test_a_picture_without_the_thing_gives_none_and_says_what_came_near(model: Vlm, cat: Thing):
    picture, _ = scene([("face", 20, 20, 120), ("rocket", 250, 100, 160)], seed=3)
    seen = locate(model, picture, [cat])
    assert seen.found == ()
    assert seen.rejected
    assert all(one.score < cat.rule.threshold for one in seen.rejected)
    assert things_seen(seen.found, (360, 480)) == "None of the known things is here."


def test_two_of_a_kind_are_both_found(model: Vlm, cat: Thing):
    picture, boxes = scene([("cat", 30, 30, 130), ("cat", 280, 180, 140)], seed=5)
    found = locate(model, picture, [cat]).found
    assert len(found) == 2
    for box in boxes:
        assert max(overlap(one.box_xyxy, box) for one in found) > 0.5


def test_crops_teach_too(model: Vlm):
    crops = []
    for picture, (x0, y0, x1, y1) in shots("cat", 2):
        crops.append(np.ascontiguousarray(picture[int(y0) : int(y1), int(x0) : int(x1)]))
    thing = teach_thing(model, "cat", [Shot(image=crop) for crop in crops])
    assert not thing.rule.boxed
    picture, (box, _) = scene([("cat", 260, 60, 150), ("rocket", 40, 180, 130)], seed=7)
    found = locate(model, picture, [thing]).found
    assert found
    assert overlap(found[0].box_xyxy, box) > 0.4


def test_a_small_thing_is_found_by_a_closer_look(model: Vlm, cat: Thing):
    picture, (box, _) = scene([("cat", 390, 290, 48), ("rocket", 60, 60, 150)], seed=9)
    found = locate(model, picture, [cat], small=True).found
    assert found
    assert overlap(found[0].box_xyxy, box) > 0.4


def test_what_is_encoded_already_is_not_encoded_again(model: Vlm, cat: Thing):
    picture, _ = scene([("cat", 300, 30, 140)])
    assert (
        locate(model, picture, [cat], encoded=model.encode(picture)).found
        == locate(model, picture, [cat]).found
    )


def test_the_threshold_lies_between_the_thing_and_the_rest():
    assert threshold([0.9, 0.95], []) == pytest.approx(0.66 + (0.80 - 0.66) / 3)
    assert threshold([0.9], [0.75, 0.2]) == pytest.approx(0.75 + 0.05 / 3)
    assert threshold([0.7], [0.9]) == 0.7  # its own pictures are always it


def test_a_bank_comes_back_from_disk_and_finds_the_same(
    tmp_path: Path, model: Vlm, cat: Thing, cup: Thing
):
    cat.save(tmp_path / "cat.npz")
    cup.save(tmp_path / "cup.npz")
    again = load_things([tmp_path], model)
    assert [thing.rule for thing in again] == [cat.rule, cup.rule]
    picture, (box,) = scene([("cat", 300, 30, 140)])
    before, after = locate(model, picture, [cat]).found, locate(model, picture, again).found
    assert [one.name for one in after] == ["cat"]
    assert overlap(after[0].box_xyxy, box) > 0.6
    assert after[0].score == pytest.approx(before[0].score, abs=5e-3)  # kept in 16 bits
    cat.save(tmp_path / "other.npz")
    with pytest.raises(BankError, match="two banks are of 'cat'"):
        load_things([tmp_path], model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BankError, match="holds no bank: edgevlm teach --thing"):
        load_things([tmp_path / "empty"], model)


def test_banks_of_another_kind_or_damaged_are_refused(
    tmp_path: Path, model: Vlm, nano: Bundle, cat: Thing
):
    picture = shots("cat", 1)[0][0]
    good, thing = tmp_path / "good.npz", tmp_path / "thing.npz"
    teach_normal(model, [picture]).save(good)
    cat.save(thing)
    with pytest.raises(BankError, match="is no bank of a thing: kind"):
        Thing.load(good, model)
    with pytest.raises(BankError, match="is no bank of good pictures: kind"):
        NormalBank.load(thing, model)
    with np.load(thing) as kept:
        arrays = dict(kept)
    for name in ("looks", "features", "back_places"):
        np.savez(thing, **{k: v for k, v in arrays.items() if k != name})
        with pytest.raises(BankError):
            Thing.load(thing, model)
    np.savez(thing, **{**arrays, "looks": arrays["looks"][:1]})
    with pytest.raises(BankError, match="of 2 pictures do not fit"):
        Thing.load(thing, model)
    rule = json.loads(arrays["rule"].tobytes())
    for change, said in (
        ({"encoder": "0" * 64}, "another encoder"),
        ({"name": "two\nlines"}, "name"),
    ):
        told = np.frombuffer(json.dumps({**rule, **change}).encode(), np.uint8)
        np.savez(thing, **{**arrays, "rule": told})
        with pytest.raises(BankError, match=said):
            Thing.load(thing, model)
    assert nano.root.is_dir()


PICTURE, BOX = shots("cat", 1)[0]


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("", [(PICTURE, BOX)], "a thing's name is a text"),
        ("a\nb", [(PICTURE, BOX)], "one line"),
        ("n" * 61, [(PICTURE, BOX)], "at most 60 characters"),
        ("cat", [], "0 pictures of 'cat': wanted 1 to 5"),
        ("cat", [(PICTURE, BOX)] * 6, "6 pictures of 'cat': wanted 1 to 5"),
        ("cat", [(PICTURE, BOX), (PICTURE, None)], "1 of 2 pictures of 'cat' have a box"),
        ("cat", [(PICTURE, (400.0, 10.0, 500.0, 90.0))], "does not lie in its picture of 480x360"),
        ("cat", [(PICTURE, (-1.0, 10.0, 90.0, 90.0))], "does not lie in its picture"),
        ("cat", [(PICTURE, (90.0, 10.0, 10.0, 90.0))], "does not lie in its picture"),
        ("cat", [(PICTURE, (10.0, 10.0, float("nan"), 90.0))], "does not lie in its picture"),
        ("cat", [(PICTURE, (10.0, 10.0, 14.0, 90.0))], "wanted at least 8 each way"),
        ("cat", [(PICTURE, (10.0, 10.0, 14.0))], "wanted left, top, right, bottom"),
    ],
)
def test_what_cannot_be_taught(model: Vlm, name: str, given: list, said: str):
    with pytest.raises(ContractError, match=said):
        teach_thing(model, name, [Shot(image=i, box_xyxy=b) for i, b in given])


def test_pictures_that_cannot_be_taken(tmp_path: Path, model: Vlm, cat: Thing):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ImageError, match=r"broken\.png"):
        teach_thing(model, "cat", [Shot(image=str(broken))])
    with pytest.raises(ImageError, match=r"broken\.png"):
        locate(model, str(broken), [cat])
    with pytest.raises(ContractError, match="nothing to locate"):
        locate(model, PICTURE, [])
    one = np.zeros((1, 1, 3), np.uint8)  # the smallest picture there is
    assert locate(model, one, [cat]).found == ()


def test_the_commands(tmp_path: Path, nano: Bundle, capsys: pytest.CaptureFixture[str]):
    given = []
    for n, (picture, box) in enumerate(shots("cat", 2)):
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
        x, y, right, bottom = box
        given += ["--box", f"{x:g},{y:g},{right - x:g},{bottom - y:g}"]
    bank, files = str(tmp_path / "cat.npz"), [str(tmp_path / f"{n}.png") for n in range(2)]
    words = ["teach", str(nano.root), *files, "--thing", "my cat", "-o", bank]
    assert run_command([*words, *given[:2]]) == 2
    assert "1 --box for 2 pictures" in capsys.readouterr().err
    assert run_command([*words, "--box", "1,2,3", "--box", "a,b,c,d"]) == 2
    assert "--box 1,2,3: wanted X,Y,W,H" in capsys.readouterr().err
    assert run_command([*words, *given, "--fixed"]) == 2
    assert run_command([*words, "--box", "0,0,9999,9", *given[:2]]) == 1
    assert "does not lie in its picture of 480x360" in capsys.readouterr().err
    assert not Path(bank).exists()
    assert run_command([*words, *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "my cat"
    picture, (there,) = scene([("cat", 300, 30, 140)])
    Image.fromarray(picture).save(tmp_path / "scene.png")
    shown = tmp_path / "shown.png"
    looked = ["locate", str(nano.root), str(tmp_path / "scene.png"), "--bank", bank]
    assert run_command([*looked, "--json", "-o", str(shown)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["thing"] for one in said["found"]] == ["my cat"]
    assert overlap(tuple(said["found"][0]["box_xyxy"]), there) > 0.6
    with Image.open(shown) as drawn:
        assert drawn.size == (480, 360)
    assert run_command(looked) == 0
    assert "my cat top right" in capsys.readouterr().out
    assert run_command(["teach", str(nano.root), *files, "--box", "1,2,30,40", "-o", bank]) == 2
    assert run_command([*looked[:3], "--bank", str(tmp_path / "none.npz")]) == 1
