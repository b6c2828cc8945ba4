from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import ExportError
from edgevlm.export.nano_data.captions import name_in
from edgevlm.export.nano_data.stamps import (
    FOLDER,
    PACKAGE,
    held_out_stamps,
    is_held_out,
    training_stamps,
)
from tests.conftest import ROOT, missing
from tests.export.nano_data.drawn import square, stored

# Photographs and the one file that may know of them are named here, and nowhere where things learn.
ONLY_EVALUATED = ("skimage", "opencv-doc", "vtest", "held_out_stamps(")


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A great blue heron.", "great blue heron"),
        ("An apple.", "apple"),
        ("A pair of binoculars.", "binoculars"),
        ("Measuring tape.", "measuring tape"),
        ("A baby sheep (a lamb).", "baby sheep"),
        ("Some flowers.", "flowers"),
        ("Eat your broccoli!", None),
        ("The yellow light means you should stop if it is safe to do so.", None),
        ("A chocolate easter egg. Yum!", None),
        ("“Yield”.", None),
        ("Hibiscus", None),
        ("", None),
    ],
)
def test_a_caption_names_one_thing_or_nothing(caption: str, name: str | None):
    assert name_in(caption) == name


def test_the_split_is_the_hash_of_the_path():
    paths = [f"animals/birds/bird{n}.png" for n in range(200)]
    for path in paths:
        value = int.from_bytes(hashlib.sha256(path.encode("utf-8")).digest(), "big")
        assert is_held_out(path) is (value % 5 == 0)
    assert 20 <= sum(map(is_held_out, paths)) <= 60


def test_the_halves_share_no_stamp(tmp_path: Path):
    for n in range(40):
        square(tmp_path, f"thing {chr(97 + n // 8)}{chr(97 + n % 8)}", (200, 10, 10))
    train, held = training_stamps(tmp_path), held_out_stamps(tmp_path)
    assert not any(is_held_out(stamp.path) for stamp in train)
    assert all(is_held_out(stamp.path) for stamp in held)
    assert len({s.path for s in train} | {s.path for s in held}) == 40
    assert train
    assert held


def test_drawings_symbols_and_turned_stamps_are_left_out(tmp_path: Path):
    pixels = np.zeros((80, 80, 4), np.uint8)
    pixels[10:70, 10:70] = 255
    for path in (
        "symbols/math/plus.png", "food/fruit/cartoon/pear.png", "animals/cow_mirror.png",
        "animals/cow.png",
    ):  # fmt: skip
        stored(tmp_path, path, pixels, "A cow.")
    hair = np.zeros((80, 80, 4), np.uint8)
    hair[40] = 255
    stored(tmp_path, "animals/thin.png", hair, "A hair.")
    stored(tmp_path, "animals/tiny.png", pixels[::4, ::4], "A mite.")
    stored(tmp_path, "animals/joke.png", pixels, "Moo!")
    found = training_stamps(tmp_path) + held_out_stamps(tmp_path)
    assert [(s.path, s.name, s.kind) for s in found] == [("animals/cow.png", "cow", "animals")]


def test_a_stamp_is_cropped_to_what_shows(tmp_path: Path):
    rgba = square(tmp_path, "brick", (200, 10, 10)).rgba()
    assert rgba.shape == (60, 60, 4)
    assert (rgba == (200, 10, 10, 255)).all()


def test_absent_stamps_are_named_with_the_package(tmp_path: Path):
    with pytest.raises(ExportError, match="apt-get install tuxpaint-stamps-default"):
        training_stamps(tmp_path / "nowhere")


def test_nothing_that_learns_asks_for_what_is_held_out():
    """Training, calibration and prompts live in the package; only benchmarks may evaluate."""
    sources = [
        path for top in ("edgevlm", "export", "runtime") for path in (ROOT / top).rglob("*.py")
    ]
    naming = {
        (path.relative_to(ROOT).as_posix(), word)
        for path in sources
        for word in ONLY_EVALUATED
        if word in path.read_text("utf-8")
    }
    naming = {(p.removeprefix("edgevlm/") if "/export/" in p else p, w) for p, w in naming}
    assert naming == {("export/nano_data/stamps.py", "held_out_stamps(")}


def test_the_package_has_enough_of_both_halves():
    if not FOLDER.is_dir():
        missing(f"Debian's package {PACKAGE} is not installed")
    train, held = training_stamps(), held_out_stamps()
    assert len(train) >= 200
    assert len(held) >= 50
    assert not any(is_held_out(stamp.path) for stamp in train)
    assert all(is_held_out(stamp.path) for stamp in held)
