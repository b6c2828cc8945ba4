from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import ExportError
from edgevlm.export.nano_data import sheet as module
from edgevlm.export.nano_data.gauges import gauge
from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.questions import Asker
from edgevlm.export.nano_data.sheet import SIDE, sheet


def test_a_sheet_shows_pictures_with_outlines_and_questions():
    asker = Asker(vocabulary=("zebra", "gauge", "lemon"))
    drawn = np.asarray(sheet({"inspection": (inspection, asker), "gauges": (gauge, asker)}, 2, 5))
    height, width = drawn.shape[0] // 2, drawn.shape[1] // 2
    expected = inspection(np.random.default_rng([5, 0]))
    card = drawn[:height, :width]
    outlined = (card[:SIDE, :SIDE] == (255, 0, 255)).all(2)
    inside = np.any([t.mask for t in expected.things], axis=0)
    assert outlined.any()
    assert not (outlined & ~inside).any()
    same = (card[:SIDE, :SIDE] == expected.image_rgb).all(2)
    assert same.mean() > 0.9
    for row in range(2):
        for column in range(2):
            text = drawn[row * height + SIDE : (row + 1) * height, column * width :][:, :width]
            assert (text < 128).any()


def test_a_package_that_is_missing_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse() -> None:
        raise ExportError("no stamps: apt-get install tuxpaint-stamps-default")

    monkeypatch.setattr(module, "training_stamps", refuse)
    monkeypatch.setattr(sys, "argv", ["sheet", str(tmp_path / "out.png")])
    assert module.main() == 1
    assert "apt-get install tuxpaint-stamps-default" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
